"""The Lua scripts that make each change of a queue of jobs one atomic step; all keys share a slot.

Every tenant has a stream of its own with the same consumer group. A tenant's running jobs are the
group's pending entries, so there is no count that could drift; tenants without jobs leave no key.
"""

from __future__ import annotations

# Pending entries of a queue; a group that is gone is made again, and then delivers all of it anew.
_PENDING = """
local function pending(queue, group)
  local found = redis.pcall('XPENDING', queue, group)
  if not found.err then return found[1] end
  if not string.find(found.err, 'NOGROUP') then error(found.err) end
  redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
  return 0
end
"""

# Forgets a job; its tenant's turn and queue go with the last one.
FORGET = """
local function forget(queue, tenants, queued, group, id, tenant, request)
  pcall(redis.call, 'XACK', queue, group, id)
  local removed = redis.call('XDEL', queue, id)
  if redis.call('HGET', queued, request) == tenant .. '/' .. id then
    redis.call('HDEL', queued, request)
  end
  if redis.call('XLEN', queue) == 0 then
    redis.call('DEL', queue)
    redis.call('ZREM', tenants, tenant)
  end
  return removed
end
"""

# KEYS tenants, queued, ready. ARGV group, queue prefix, tenant, request id, payload, queue limit,
# tenant limit, TTL ms of `ready`. A job that is in a queue already stays the only one. A newcomer
# comes just before whoever was served last.
ENQUEUE = """
local known = redis.call('HGET', KEYS[2], ARGV[4])
if known then
  local tenant, id = string.match(known, '^(.*)/(%d+%-%d+)$')
  if id and #redis.call('XRANGE', ARGV[2] .. tenant, id, id) > 0 then return 'OK' end
end
local queue, depth = ARGV[2] .. ARGV[3], 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  depth = depth + redis.call('XLEN', ARGV[2] .. tenant)
end
if depth >= tonumber(ARGV[6]) then return 'FULL' end
if redis.call('XLEN', queue) >= tonumber(ARGV[7]) then return 'TENANT_FULL' end
redis.pcall('XGROUP', 'CREATE', queue, ARGV[1], '0', 'MKSTREAM')
local id = redis.call('XADD', queue, '*', 'p', ARGV[5])
redis.call('HSET', KEYS[2], ARGV[4], ARGV[3] .. '/' .. id)
local served = redis.call('ZSCORE', KEYS[1], '') or 0
redis.call('ZADD', KEYS[1], 'NX', served - 0.5, ARGV[3])
redis.call('RPUSH', KEYS[3], '1')
redis.call('LTRIM', KEYS[3], -depth - 1, -1)
redis.call('PEXPIRE', KEYS[3], ARGV[8])
return 'OK'
"""

# KEYS tenants, ready. ARGV group, queue prefix, consumer, idle ms. The next job for the consumer,
# or nil: {tenant, id, fields, deliveries}. First a delivery that went silent, else a new one; of
# the tenant with the fewest running jobs, then the one longest not served. An entry that is pending
# but deleted is dropped on the way.
TAKE = (
    _PENDING
    + """
local group, prefix, consumer, idle = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local turns = {}
local members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local tenant = members[i]
  local queue = prefix .. tenant
  local length = redis.call('XLEN', queue)
  if length > 0 then
    local turn = {tenant = tenant, queue = queue, served = tonumber(members[i + 1])}
    turn.running = pending(queue, group)
    turn.waiting = length - turn.running
    table.insert(turns, turn)
  elseif tenant ~= '' then
    redis.call('DEL', queue)
    redis.call('ZREM', KEYS[1], tenant)
  end
end
table.sort(turns, function(a, b)
  if a.running ~= b.running then return a.running < b.running end
  if a.served ~= b.served then return a.served < b.served end
  return a.tenant < b.tenant
end)
local function served(turn, id, fields, deliveries)
  redis.call('ZADD', KEYS[1], redis.call('ZINCRBY', KEYS[1], 1, ''), turn.tenant)
  return {turn.tenant, id, fields, deliveries}
end
for _, turn in ipairs(turns) do
  while turn.running > 0 do
    local stale = redis.call('XPENDING', turn.queue, group, 'IDLE', idle, '-', '+', 1)[1]
    if not stale then break end
    local claimed = redis.call('XCLAIM', turn.queue, group, consumer, idle, stale[1])[1]
    if claimed then return served(turn, stale[1], claimed[2], stale[4] + 1) end
    redis.call('XACK', turn.queue, group, stale[1])
  end
end
for _, turn in ipairs(turns) do
  if turn.waiting > 0 then
    local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1,
      'STREAMS', turn.queue, '>')
    if found then return served(turn, found[1][2][1][1], found[1][2][1][2], 1) end
  end
end
redis.call('DEL', KEYS[2])
return false
"""
)

# KEYS queue. ARGV group, consumer, id. What follows runs only for the delivery's owner.
OWNED = """
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err then return string.find(pending.err, 'NOGROUP') and 'LOST' or pending end
if not pending[1] or pending[1][2] ~= ARGV[2] then return 'LOST' end
"""

# Keeps a delivery from going stale.
KEEP = (
    OWNED
    + """
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
"""
)
RENEW = KEEP + "return 'OK'"

# KEYS queue, ready. ARGV group, consumer, id, an idle time in ms past every limit, TTL ms of
# `ready`. The delivery counts as stale from now on, and as one that was never made.
RELEASE = (
    OWNED
    + """
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3],
  'IDLE', ARGV[4], 'RETRYCOUNT', math.max(pending[1][4] - 1, 0), 'JUSTID')
redis.call('RPUSH', KEYS[2], '1')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 'OK'
"""
)

# KEYS queue, tenants, queued. ARGV group, id, tenant, request id.
ACK = (
    FORGET
    + """
return forget(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
"""
)

# KEYS queue, tenants, queued, dead letters. ARGV group, id, tenant, request id, limit, payload,
# reason, TTL ms. Once only: by the deletion.
BURY = (
    FORGET
    + """
if forget(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) == 0 then return 'GONE' end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*',
  'p', ARGV[6], 'reason', ARGV[7], 'tenant', ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[8])
return 'OK'
"""
)

# KEYS tenants. ARGV queue prefix. Jobs of all tenants.
DEPTH = """
local depth = 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  depth = depth + redis.call('XLEN', ARGV[1] .. tenant)
end
return depth
"""

# KEYS tenants, dead letters. ARGV group, queue prefix. Jobs of all tenants: all, those taken, and
# the dead letters.
BACKLOG = """
local depth, taken = 0, 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local queue = ARGV[2] .. tenant
  depth = depth + redis.call('XLEN', queue)
  local pending = redis.pcall('XPENDING', queue, ARGV[1])
  if not pending.err then taken = taken + pending[1] end
end
return {depth, taken, redis.call('XLEN', KEYS[2])}
"""

# KEYS tenants. ARGV group, queue prefix, idle ms. Consumers are named after processes, which come
# and go.
PRUNE = """
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local queue = ARGV[2] .. tenant
  local consumers = redis.pcall('XINFO', 'CONSUMERS', queue, ARGV[1])
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    if consumer[4] == 0 and consumer[6] > tonumber(ARGV[3]) then
      redis.call('XGROUP', 'DELCONSUMER', queue, ARGV[1], consumer[2])
    end
  end
end
return 'OK'
"""
