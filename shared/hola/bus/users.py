"""Redis users: HOLA's own, one that probes ping with, and one that an autoscaler reads with."""

from __future__ import annotations

import hashlib

from hola.bus.acl import acl_rule

# What KEDA's Redis scalers ask: the length and lag of queues, nothing of what is in them.
_SCALER = "~hola:{jobs}:* resetchannels -@all +xinfo|groups +xlen +xpending +type +hlen +llen"


def users_file(password: str, scaler_password: str) -> str:
    """An ACL file: hashes of the two passwords, the users `hola`, `keda` and `probe`.

    The default user is locked but keeps its rights: Redis 7.0 replays its log as that user.
    """
    return "".join(
        f"user {line}\n"
        for line in (
            "default off ~* &* +@all",
            "probe on nopass resetkeys resetchannels -@all +ping",
            f"hola on #{_sha256(password)} {acl_rule()}",
            f"keda on #{_sha256(scaler_password)} {_SCALER} +eval +evalsha",
        )
    )


def _sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
