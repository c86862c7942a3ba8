"""Keeps users' texts and secrets out of log lines, by the name of a value and by its look."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

REDACTED = "[redacted]"
_DEEPEST = 6

_SECRET_KEYS = frozenset(
    {"prompt", "messages", "content", "text", "tokens", "token_ids", "committed", "completion"}
    | {"password", "secret", "authorization", "token", "api_key", "private_key", "credential"}
    | {"metadata", "invocation_metadata"}
)
# Secrets inside of texts that are logged for another reason, an exception's trace for example.
_LOOKS = (
    (re.compile(r"(?<=://)[^/@\s]*@"), ""),
    (re.compile(r"(?i)\b(bearer)\s+[^\s'\"]{8,}"), rf"\1 {REDACTED}"),
    (re.compile(r"\bhola_[0-9a-f]{8}_[A-Za-z0-9_-]{20,}"), REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), REDACTED),
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*-----|\Z)", re.S),
        REDACTED,
    ),
    (re.compile(r"(?i)\b(password|passwd|secret|HOLA_TOKEN)=[^\s&'\"]+"), rf"\1={REDACTED}"),
)


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Log processor: blanks what may hold a user's text or a secret. Changes `event`."""
    for key, value in event.items():
        event[key] = REDACTED if key in _SECRET_KEYS else _clean(value, _DEEPEST)
    return event


def clean_text(text: str) -> str:
    """`text` without URL logins, bearer credentials, keys, signed tokens and private keys."""
    for look, instead in _LOOKS:
        text = look.sub(instead, text)
    return text


def _clean(value: Any, depth: int) -> Any:
    """A copy without secrets; what is nested too deep is blanked whole."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bytes):
        return clean_text(value.decode("latin-1"))
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if depth == 0:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            key: REDACTED if key in _SECRET_KEYS else _clean(item, depth - 1)
            for key, item in value.items()
        }
    return [_clean(item, depth - 1) for item in value]
