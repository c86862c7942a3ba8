"""The Lua scripts behind quotas and the verifier registry; time is the server's."""

from __future__ import annotations

# KEYS bucket. ARGV microseconds per token, burst. A bucket is the time at which it is full again.
# Replies with the microseconds until there is a token; 0 when one was taken.
SPEND = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, room = tonumber(ARGV[1]), ARGV[1] * ARGV[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
full = math.min(full, now + room) + step
local wait = full - now - room
if wait > 1 then return math.ceil(wait) end
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
