"""The Lua scripts that make each change of one request's keys one atomic step."""

from __future__ import annotations

# KEYS journal, request. ARGV nonce, tenant, digest, payload, TTL ms, seal id of an ended journal
# that may be replaced ('' none). Replies with 'OK', or 'DUPLICATE' and, where nothing has been
# written yet, the payload and tenant that were published. The journal is created here, empty, so
# that its existence is the idempotency key: a stream without entries, kept by a consumer group. A
# publisher that lost the answer tries again with the same nonce and recognises its own work.
CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  local known = redis.call('HMGET', KEYS[2], 'nonce', 'job', 'tenant')
  if known[1] == ARGV[1] then return {'OK'} end
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  local last
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
  if last ~= ARGV[6] then
    if last == '0-0' and known[2] then return {'DUPLICATE', known[2], known[3]} end
    return {'DUPLICATE'}
  end
  redis.call('DEL', KEYS[1], KEYS[2])
end
redis.call('XGROUP', 'CREATE', KEYS[1], '-', '0', 'MKSTREAM')
redis.call('HSET', KEYS[2], 'nonce', ARGV[1], 'tenant', ARGV[2], 'digest', ARGV[3], 'job', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {'OK'}
"""

# KEYS journal, request. ARGV nonce. Takes back what CREATE made, unless somebody wrote to it.
DISCARD = """
if redis.call('HGET', KEYS[2], 'nonce') ~= ARGV[1] then return 'KEPT' end
if redis.call('XLEN', KEYS[1]) > 0 then return 'KEPT' end
redis.call('DEL', KEYS[1], KEYS[2])
return 'OK'
"""

# KEYS journal, request. ARGV TTL ms, seal id. An ended journal keeps its own TTL: a heartbeat that
# meets one, as after a cancellation, would keep it as long as a running one.
EXTEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' and info[i + 1] == ARGV[2] then return 0 end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1], 'GT')
return redis.call('PEXPIRE', KEYS[2], ARGV[1], 'GT')
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
if not top then redis.call('HDEL', KEYS[2], 'job') end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'OK'
"""
