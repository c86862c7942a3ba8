"""Range checks for what callers send: each failure names the field, the value and the range."""

from __future__ import annotations

from hola.types import SamplingParams, SpeculationParams


def check_request_id(request_id: str) -> None:
    """Raise InvalidRequest unless it is 1 to 128 characters of [A-Za-z0-9._-]."""
    raise NotImplementedError


def check_sampling(params: SamplingParams, vocab_size: int | None = None) -> None:
    """Raise InvalidSampling for the first field outside the ranges of common.proto.

    With `vocab_size`, stop_token_ids must lie inside the vocabulary too.
    """
    raise NotImplementedError


def check_speculation(params: SpeculationParams) -> None:
    """Raise InvalidRequest for the first field outside the ranges of common.proto."""
    raise NotImplementedError
