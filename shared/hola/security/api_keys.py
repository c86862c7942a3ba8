"""API keys: 256 random bits for the client, one line with their hash for the server.

A line of the file: `ID TENANT sha256:HEX`, HEX the SHA-256 of the whole key. The id is part of the
key, so equal secrets would still hash differently. A slow hash (scrypt) guards passwords, which can
be guessed; nobody guesses 256 random bits, and a slow hash per call would help to stop a router.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from hola.errors import ConfigError, InvalidRequest
from hola.security.caller import Caller, CallerKind
from hola.security.watched import Watched, read_file
from hola.validate import check_tenant

PREFIX = "hola_"
_ID_BYTES = 4
_SECRET_BYTES = 32
_KEY = re.compile(r"hola_(?P<id>[0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_LINE = re.compile(r"(?P<id>[0-9a-f]{8})\s+(?P<tenant>\S+)\s+sha256:(?P<hash>[0-9a-f]{64})")
_LARGEST = 4 * 1024 * 1024
VARIABLE = "HOLA_API_KEYS"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: `text` for the client, `line` for the file."""

    text: str
    line: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A line of the file; `digest` is 32 bytes."""

    tenant: str
    digest: bytes


_NO_KEY = StoredKey(tenant="", digest=bytes(32))


def new_key(tenant: str) -> NewKey:
    """A key for `tenant`. Raises InvalidRequest when that is not a tenant's name."""
    check_tenant(tenant)
    key_id = secrets.token_hex(_ID_BYTES)
    text = f"{PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewKey(text=text, line=f"{key_id} {tenant} sha256:{_digest(text).hex()}")


def parse_keys(content: bytes, where: str) -> dict[str, StoredKey]:
    """The keys of a file's content, by id; blank lines and those that begin with # are skipped.

    Raises ConfigError naming the line that is wrong, and nothing of what it holds.
    """
    keys: dict[str, StoredKey] = {}
    for number, line in _lines(content, where):
        match = _LINE.fullmatch(line)
        if match is None or not _is_tenant(match["tenant"]):
            raise _wrong(where, number, "expected ID TENANT sha256:HEX, as `hola keys create` says")
        if match["id"] in keys:
            raise _wrong(where, number, "its id is there already")
        keys[match["id"]] = StoredKey(match["tenant"], bytes.fromhex(match["hash"]))
    return keys


def watched_keys(path: str) -> Watched[dict[str, StoredKey]]:
    """The keys of a file, followed when it changes. Raises ConfigError as `parse_keys`."""
    return Watched([path], lambda: parse_keys(read_file(path, VARIABLE, _LARGEST), path))


def caller_of_key(text: str, keys: dict[str, StoredKey]) -> Caller | None:
    """Whose key it is; None for a text that is no key, or none of these."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    stored = keys.get(match["id"], _NO_KEY)
    if not hmac.compare_digest(_digest(text), stored.digest):
        return None
    return Caller(tenant=stored.tenant, kind=CallerKind.CLIENT, name=f"key-{match['id']}")


def _lines(content: bytes, where: str) -> Iterator[tuple[int, str]]:
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise _wrong(where, number, "it is not plain ASCII") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if (line := line.strip()) and not line.startswith("#"):
            yield number, line


def _is_tenant(name: str) -> bool:
    try:
        check_tenant(name)
    except InvalidRequest:
        return False
    return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


def _wrong(where: str, line: int, why: str) -> ConfigError:
    return ConfigError(f"{VARIABLE}={where} line {line}: {why}", variable=VARIABLE, line=line)
