"""The Lua scripts that make each change on Redis one atomic step; replies are short words."""

from __future__ import annotations

# KEYS jobs, journal, request. ARGV payload, queue limit, journal TTL ms, nonce, tenant, digest.
# The journal is created here, empty, so that its existence is the idempotency key. It is a stream
# without entries, kept by a consumer group named after this publication: a publisher that lost the
# answer tries again with the same nonce and recognises its own work.
PUBLISH = """
if redis.call('EXISTS', KEYS[2]) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    if group[2] == ARGV[4] then return 'OK' end
  end
  return 'DUPLICATE'
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 'FULL' end
redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[4], '0', 'MKSTREAM')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[3], 'tenant', ARGV[5], 'digest', ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('XADD', KEYS[1], '*', 'p', ARGV[1])
return 'OK'
"""

# KEYS jobs. ARGV group, consumer, idle ms. The oldest delivery that went silent, or nil:
# {id, fields, deliveries}. An entry that is pending but deleted is dropped on the way.
CLAIM = """
while true do
  local stale = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
  if not stale then return false end
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], stale[1])[1]
  if claimed then return {stale[1], claimed[2], stale[4] + 1} end
  redis.call('XACK', KEYS[1], ARGV[1], stale[1])
end
"""

# KEYS jobs, journal, request. ARGV group, consumer, id, journal TTL ms. An ended journal keeps its
# own TTL: the job is acknowledged right after its end, so a heartbeat cannot meet one for long.
RENEW = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not pending or pending[2] ~= ARGV[2] then return 'LOST' end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
redis.call('PEXPIRE', KEYS[2], ARGV[4], 'GT')
redis.call('PEXPIRE', KEYS[3], ARGV[4], 'GT')
return 'OK'
"""

# KEYS jobs. ARGV group, consumer, id, an idle time in ms past every limit. The delivery counts as
# stale from now on, and as one that was never made.
RELEASE = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not pending or pending[2] ~= ARGV[2] then return 'LOST' end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3],
  'IDLE', ARGV[4], 'RETRYCOUNT', math.max(pending[4] - 1, 0), 'JUSTID')
return 'OK'
"""

# KEYS jobs. ARGV group, id.
ACK = """
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
"""

# KEYS jobs, dead letters. ARGV group, id, limit, payload, reason. Once only: by the XDEL.
BURY = """
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 'GONE' end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'p', ARGV[4], 'reason', ARGV[5])
return 'OK'
"""

# KEYS jobs. ARGV group, idle ms. Consumers are named after processes, which come and go.
PRUNE = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if consumer[4] == 0 and consumer[6] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2])
  end
end
return 'OK'
"""

# KEYS journal, request. ARGV id, payload, TTL ms, terminal (0/1), entry limit, last id known to the
# writer ('' unknown), repeated (0/1), seal id. XADD itself refuses an id that is not the highest;
# the comparison before it also catches a journal that lost its tail. A repeated command finds its
# own entry and is content.
APPEND = """
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if ARGV[7] == '1' and top and top[1] == ARGV[1] and top[2][2] == ARGV[2] then return 'OK' end
if ARGV[6] ~= '' and (top and top[1] or '0-0') ~= ARGV[6] then
  return redis.call('EXISTS', KEYS[1]) == 1 and 'FENCED' or 'UNKNOWN'
end
if ARGV[4] == '0' and redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 'FULL' end
local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', ARGV[1], 'p', ARGV[2])
if not added then return 'UNKNOWN' end
if type(added) == 'table' and added.err then
  return string.find(added.err, 'equal or smaller') and 'FENCED' or added
end
if ARGV[4] == '1' then redis.call('XSETID', KEYS[1], ARGV[8]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'OK'
"""

# KEYS bucket. ARGV microseconds per token, burst. A bucket is the time at which it is full again.
# Replies with the microseconds until there is a token; 0 when one was taken.
SPEND = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, room = tonumber(ARGV[1]), ARGV[1] * ARGV[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1])) or now, now)
local wait = math.min(full, now + room) + step - now - room
if wait > 1 then return math.ceil(wait) end
full = full + step
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil((full - now) / 1000))
return 0
"""

# KEYS until, records. ARGV address, record, TTL ms, limit.
ANNOUNCE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
end
while redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[4]) do
  redis.call('HDEL', KEYS[2], redis.call('ZPOPMIN', KEYS[1])[1])
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[1], last)
redis.call('PEXPIREAT', KEYS[2], last)
return 'OK'
"""

# KEYS until, records. ARGV address.
WITHDRAW = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""

# KEYS until, records. ARGV limit. The records that hold, by address.
VERIFIERS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, ARGV[1])
if #found == 0 then return found end
table.sort(found)
return redis.call('HMGET', KEYS[2], unpack(found))
"""
