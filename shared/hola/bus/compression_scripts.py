"""The Lua scripts of compression jobs: a job's status changes with its place in the queue.

All keys have the queue's hash tag. A record is a hash: "status" its last status, "ended" once that
is the last one.
"""

from __future__ import annotations

from hola.bus import job_scripts
from hola.bus.job_scripts import ENQUEUE, FORGET, KEEP, OWNED

# KEYS tenants, queued, ready, record. ARGV as ENQUEUE's eight, then status, TTL ms.
SUBMIT = (
    """
if redis.call('EXISTS', KEYS[4]) == 1 then return 'TAKEN' end
local function enqueue()
"""
    + ENQUEUE
    + """
end
local reply = enqueue()
if reply == 'OK' then
  redis.call('HSET', KEYS[4], 'status', ARGV[9])
  redis.call('PEXPIRE', KEYS[4], ARGV[10])
end
return reply
"""
)

_OPEN = """
local record = redis.call('HMGET', KEYS[2], 'status', 'ended')
if not record[1] then return 'LOST' end
"""

# KEYS queue, record. ARGV group, consumer, id, status, TTL ms.
REPORT = (
    _OPEN
    + """
if record[2] then return 'LOST' end
"""
    + KEEP
    + """
redis.call('HSET', KEYS[2], 'status', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 'OK'
"""
)

# KEYS queue, ready, record. ARGV as RELEASE's five, then status, TTL ms. A job that was cancelled
# meanwhile is in no queue any more.
RELEASE = (
    """
local function release()
"""
    + job_scripts.RELEASE
    + """
end
local reply = release()
if reply == 'OK' and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'status', ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
return reply
"""
)

# KEYS queue, record, tenants, queued. ARGV group, consumer, id, status, TTL ms, tenant, name. A
# repetition whose first answer was lost finds its own end.
FINISH = (
    FORGET
    + _OPEN
    + """
if record[2] then return record[1] == ARGV[4] and 'OK' or 'LOST' end
"""
    + OWNED
    + """
forget(KEYS[1], KEYS[3], KEYS[4], ARGV[1], ARGV[3], ARGV[6], ARGV[7])
redis.call('HSET', KEYS[2], 'status', ARGV[4], 'ended', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 'OK'
"""
)

# KEYS tenants, record, queued. ARGV group, queue prefix, name, status, TTL ms. Whoever has it.
END = (
    FORGET
    + _OPEN
    + """
if record[2] then return 'ENDED' end
local known = redis.call('HGET', KEYS[3], ARGV[3])
if known then
  local tenant, id = string.match(known, '^(.*)/(%d+%-%d+)$')
  forget(ARGV[2] .. tenant, KEYS[1], KEYS[3], ARGV[1], id, tenant, ARGV[3])
end
redis.call('HSET', KEYS[2], 'status', ARGV[4], 'ended', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 'OK'
"""
)
