"""Range checks for what callers send: each failure names the field, the value and the range."""

from __future__ import annotations

import math
import re

from hola.errors import InvalidRequest, InvalidSampling
from hola.plan import (
    MAX_COLLECTIONS,
    MAX_LATENCY_TARGET_MS,
    MAX_LOOKUP_CHARS,
    MAX_LOOKUP_TEXTS,
    MAX_PASSAGE_TOKENS,
)
from hola.types import (
    MAX_BLOCK_TOKENS,
    RetrievalMode,
    RetrievalParams,
    SamplingParams,
    SpeculationParams,
)

MAX_SEED = 2**63 - 1
MAX_TOP_K = 2**31 - 1
MAX_OUTPUT_TOKENS = 1_048_576
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MAX_STOP_TOKENS = 64
MAX_TIER_NAMES = 16

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_request_id(request_id: str) -> None:
    """Raise InvalidRequest unless it is 1 to 128 characters of [A-Za-z0-9._-]."""
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise _refuse(InvalidRequest, "request_id", request_id, "1 to 128 of [A-Za-z0-9._-]")


def check_tenant(tenant: str) -> None:
    """Raises InvalidRequest unless the tenant is 1 to 64 characters of [A-Za-z0-9._-]."""
    if not _TENANT.fullmatch(tenant):
        raise _refuse(InvalidRequest, "tenant", tenant, "1 to 64 characters of [A-Za-z0-9._-]")


def check_sampling(params: SamplingParams, vocab_size: int | None = None) -> None:
    """Raise InvalidSampling for the first field outside the ranges of common.proto.

    With `vocab_size`, stop_token_ids must lie inside the vocabulary too.
    """
    _check_real("temperature", params.temperature, "0 to 100, finite", low=0, high=100)
    _check_real("top_p", params.top_p, "above 0, at most 1", low=0, high=1, open_low=True)
    _check_real("min_p", params.min_p, "0 to 1", low=0, high=1)
    _check_whole("top_k", params.top_k, 0, MAX_TOP_K)
    _check_whole("seed", params.seed, 0, MAX_SEED)
    _check_whole("max_tokens", params.max_tokens, 1, MAX_OUTPUT_TOKENS)
    if len(params.stop) > MAX_STOP_STRINGS:
        raise _refuse(InvalidSampling, "stop", len(params.stop), f"at most {MAX_STOP_STRINGS}")
    for text in params.stop:
        _check_stop(text)
    if len(params.stop_token_ids) > MAX_STOP_TOKENS:
        count = len(params.stop_token_ids)
        raise _refuse(InvalidSampling, "stop_token_ids", count, f"at most {MAX_STOP_TOKENS}")
    last_id = (2**32 if vocab_size is None else vocab_size) - 1
    for token in params.stop_token_ids:
        _check_whole("stop_token_ids", token, 0, last_id)


def check_speculation(params: SpeculationParams) -> None:
    """Raise InvalidRequest for the first field outside the ranges of common.proto."""
    k = params.max_draft_tokens
    if k is not None and not (_is_whole(k) and 0 <= k <= MAX_BLOCK_TOKENS):
        raise _refuse(InvalidRequest, "max_draft_tokens", k, f"0 to {MAX_BLOCK_TOKENS}")
    threshold = params.entropy_threshold
    if not (_is_real(threshold) and 0 < threshold <= 100):
        raise _refuse(InvalidRequest, "entropy_threshold", threshold, "above 0, at most 100 nats")
    ladder = params.ladder or ()
    if len(ladder) > MAX_TIER_NAMES:
        raise _refuse(InvalidRequest, "ladder", len(ladder), f"at most {MAX_TIER_NAMES} names")
    for name in ladder:
        if not isinstance(name, str) or not name:
            raise _refuse(InvalidRequest, "ladder", name, "tier names")


def check_retrieval(params: RetrievalParams) -> None:
    """Raise InvalidRequest for the first field outside the ranges of plan.proto.

    Names of collections are the document store's to check.
    """
    names = params.collections
    if len(names) > MAX_COLLECTIONS:
        raise _refuse(InvalidRequest, "collections", len(names), f"at most {MAX_COLLECTIONS} names")
    if params.effective_mode is not RetrievalMode.OFF and not names:
        raise InvalidRequest(
            f"retrieval {params.effective_mode.name} needs a collection to search: name one",
            field="collections",
        )
    for field, value, most in (
        ("max_passage_tokens", params.max_passage_tokens, MAX_PASSAGE_TOKENS),
        ("latency_target_ms", params.latency_target_ms, MAX_LATENCY_TARGET_MS),
    ):
        if not (_is_whole(value) and 0 <= value <= most):
            raise _refuse(InvalidRequest, field, value, f"0 to {most}")


def check_lookup_texts(texts: tuple[str, ...]) -> None:
    """Raise InvalidRequest unless they are within drafter.proto's bounds."""
    chars = sum(map(len, texts))
    if len(texts) > MAX_LOOKUP_TEXTS or chars > MAX_LOOKUP_CHARS:
        raise _refuse(
            InvalidRequest,
            "lookup_texts",
            f"{len(texts)} texts of {chars} characters",
            f"at most {MAX_LOOKUP_TEXTS} of {MAX_LOOKUP_CHARS}",
        )


def _check_stop(text: str) -> None:
    expected = f"1 to {MAX_STOP_BYTES} bytes of valid UTF-8"
    if not isinstance(text, str):
        raise _refuse(InvalidSampling, "stop", text, expected)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _refuse(InvalidSampling, "stop", ascii(text), expected) from None
    if not 1 <= size <= MAX_STOP_BYTES:
        raise _refuse(InvalidSampling, "stop", f"{size} bytes", expected)


def _check_real(
    field: str, value: float, expected: str, *, low: float, high: float, open_low: bool = False
) -> None:
    fits = _is_real(value) and low <= value <= high and not (open_low and value == low)
    if not fits:
        raise _refuse(InvalidSampling, field, value, expected)


def _check_whole(field: str, value: int, low: int, high: int) -> None:
    if not (_is_whole(value) and low <= value <= high):
        raise _refuse(InvalidSampling, field, value, f"{low} to {high}")


def _is_real(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(kind: type[InvalidRequest], field: str, value: object, expected: str) -> InvalidRequest:
    shown = repr(value)[:80]
    return kind(
        f"{field} is {shown}, expected {expected}", field=field, value=shown, expected=expected
    )
