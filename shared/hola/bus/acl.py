"""What HOLA's user on Redis has to be allowed, and nothing else; docs/BUS.md has it to copy."""

from __future__ import annotations

KEYS = "del exists get pexpire pexpireat set"
STREAMS = (
    "xack xadd xclaim xdel xgroup|create xgroup|delconsumer xinfo|consumers xinfo|stream"
    " xlen xpending xrange xread xreadgroup xrevrange xsetid"
)
SETS = "zadd zcard zincrby zpopmin zrange zrangebyscore zrem zrevrange zscore"
HASHES_AND_LISTS = "hdel hget hmget hset blpop ltrim rpush"
SCRIPTS = "eval evalsha time"
CONNECTION = "client|setname select"
CLUSTER = "asking cluster|shards cluster|slots command"

ACL_COMMANDS = tuple(
    " ".join([KEYS, STREAMS, SETS, HASHES_AND_LISTS, SCRIPTS, CONNECTION, CLUSTER]).split()
)


def acl_rule(prefix: str = "hola") -> str:
    """The rule for `ACL SETUSER name on >password RULE`: keys of the prefix, no channels."""
    commands = " ".join(f"+{command}" for command in ACL_COMMANDS)
    return f"~{prefix}:* resetchannels -@all {commands}"
