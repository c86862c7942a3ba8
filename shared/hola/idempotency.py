"""Idempotency keys: a key stands for one request, whose id both ends can work out."""

from __future__ import annotations

import hashlib

from hola.errors import InvalidRequest

MAX_KEY_CHARS = 128


def request_id_of_key(key: str) -> str:
    """The request id that a tenant's requests with this key have.

    Raises InvalidRequest unless the key is 1 to 128 characters of valid Unicode.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raw = b""
    if not raw or len(key) > MAX_KEY_CHARS:
        raise InvalidRequest(
            f"idempotency_key is {ascii(key)[:80]}, expected 1 to {MAX_KEY_CHARS} characters",
            field="idempotency_key",
        )
    return "key-" + hashlib.sha256(raw).hexdigest()[:32]
