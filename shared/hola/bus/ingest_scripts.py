"""The Lua scripts of ingests beyond those of every queue: a step of a job and its report in one."""

from __future__ import annotations

from hola.bus.job_scripts import FORGET, KEEP, OWNED

# KEYS queue, report. ARGV group, consumer, id, report, TTL ms. Heartbeat and progress: a worker
# that lost the job cannot write over its successor's report.
REPORT = (
    KEEP
    + """
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
return 'OK'
"""
)

# KEYS queue, report, tenants, queued. ARGV group, consumer, id, report, TTL ms, tenant, job id.
# The end; when its answer was lost, it may be asked for again.
FINISH = (
    "if redis.call('GET', KEYS[2]) == ARGV[4] then return 'OK' end\n"
    + OWNED
    + FORGET
    + """
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
forget(KEYS[1], KEYS[3], KEYS[4], ARGV[1], ARGV[3], ARGV[6], ARGV[7])
return 'OK'
"""
)

# KEYS report, reports. ARGV report, TTL ms, job id, score, reports listed. The first report, unless
# a worker was faster; and the job in its tenant's list.
ANNOUNCE = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[5]) do redis.call('ZPOPMIN', KEYS[2]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 'OK'
"""
