"""Request ids on the bus: each tenant names its requests as it likes and meets nobody else's.

A client of tenant A can thus neither take an id away from B (ALREADY_EXISTS would also tell it that
B uses the id) nor find B's requests under it. The default tenant, the only one of a system without
authentication, keeps its ids as they are.
"""

from __future__ import annotations

import hashlib
import re

from hola.types import DEFAULT_TENANT

HEAD_CHARS = 64
_MADE = re.compile(r"\.[0-9a-f]{32}\Z")


def bus_id(tenant: str, request_id: str) -> str:
    """The id of a tenant's request on the bus, in drafters and in verifiers.

    It begins as the client's id does, for who reads logs, and is a valid request id of at most 97
    characters, or the id itself. Two different pairs do not get one id: an id of the default tenant
    that looks like a made one is made over as well.
    """
    if tenant == DEFAULT_TENANT and not _MADE.search(request_id):
        return request_id
    digest = hashlib.sha256(f"{tenant}\0{request_id}".encode()).hexdigest()
    return f"{request_id[:HEAD_CHARS]}.{digest[:32]}"
