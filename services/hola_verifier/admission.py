"""What is checked before a session costs anything: model, tokenizer, fingerprint, sizes, tokens."""

from __future__ import annotations

from collections.abc import Sequence

from hola.checking import MAX_CHECKED_TOKENS, CheckRequest
from hola.errors import (
    EmptyPrompt,
    FingerprintMismatch,
    InvalidRequest,
    PromptTooLong,
    TokenizerMismatch,
    UnknownModel,
)
from hola.ports import EngineInfo
from hola.types import MAX_BLOCK_TOKENS, Exactness, Open
from hola.validate import check_sampling, check_tenant
from hola_verifier.target import Target

MAX_ID_CHARS = 128
# A block may run past max_tokens before the drafter cuts it; two for the token that chooses the
# first one and for padding to an even width.
MARGIN_TOKENS = MAX_BLOCK_TOKENS + 2


def check_open(request: Open, target: Target) -> Exactness:
    """How exact a session of this request would be here.

    Raises UnknownModel, TokenizerMismatch, FingerprintMismatch, InvalidRequest, InvalidSampling,
    EmptyPrompt or PromptTooLong, each naming what was expected.
    """
    info = target.engine.info
    if not 1 <= len(request.session_id) <= MAX_ID_CHARS:
        raise InvalidRequest(
            f"session_id: {len(request.session_id)} characters, expected 1 to {MAX_ID_CHARS}",
            field="session_id",
        )
    _check_origin(request, target)
    check_sampling(request.sampling, info.vocab_size)
    _check_tokens("prompt_token_ids", request.prompt, info.vocab_size)
    _check_tokens("committed_token_ids", request.committed, info.vocab_size)
    _check_length(request, info.context_length)
    return _exactness(request, target)


def check_question(request: CheckRequest, target: Target) -> None:
    """Refuse a drafted answer that this target cannot look at.

    Raises UnknownModel, TokenizerMismatch, InvalidRequest, EmptyPrompt or PromptTooLong, each
    naming what was expected.
    """
    info = target.engine.info
    _check_origin(request, target)
    if not request.prompt:
        raise EmptyPrompt("prompt_token_ids: empty", field="prompt_token_ids")
    if not 1 <= len(request.draft) <= MAX_CHECKED_TOKENS:
        raise InvalidRequest(
            f"draft_token_ids: {len(request.draft)} tokens, expected 1 to {MAX_CHECKED_TOKENS}",
            field="draft_token_ids",
        )
    _check_tokens("prompt_token_ids", request.prompt, info.vocab_size)
    _check_tokens("draft_token_ids", request.draft, info.vocab_size)
    length = len(request.prompt) + len(request.draft)
    if length > info.context_length:
        raise PromptTooLong(
            f"{length} tokens of prompt and draft, the context is {info.context_length}",
            prompt_tokens=len(request.prompt),
            context_length=info.context_length,
        )


def _check_origin(request: Open | CheckRequest, target: Target) -> None:
    """Tenant, family and tokenizer."""
    check_tenant(request.tenant)
    if request.model not in ("", target.model):
        raise UnknownModel(
            f"this verifier serves {target.model}, not {request.model[:MAX_ID_CHARS]}",
            model=request.model,
            known=target.model,
        )
    if request.tokenizer_fingerprint != target.tokenizer_fingerprint:
        raise TokenizerMismatch(
            "the caller's tokenizer is not the target's: use tiers of one family",
            expected=target.tokenizer_fingerprint,
            got=request.tokenizer_fingerprint,
        )


def capacity_of(request: Open, info: EngineInfo) -> int:
    """Tokens of KV cache a session may need: prompt, the longest output and a block's margin."""
    output = max(request.sampling.max_tokens, len(request.committed))
    return min(info.context_length, len(request.prompt) + output + MARGIN_TOKENS)


def _check_tokens(field: str, tokens: Sequence[int], vocab_size: int) -> None:
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
        raise InvalidRequest(
            f"{field}: a token id is outside the vocabulary of {vocab_size}",
            field=field,
            vocab_size=vocab_size,
        )


def _check_length(request: Open, context_length: int) -> None:
    if not request.prompt:
        raise EmptyPrompt("prompt_token_ids: empty", field="prompt_token_ids")
    length = len(request.prompt) + len(request.committed)
    if length >= context_length:
        raise PromptTooLong(
            f"{length} tokens leave no room in a context of {context_length}",
            prompt_tokens=len(request.prompt),
            committed_tokens=len(request.committed),
            context_length=context_length,
        )


def _exactness(request: Open, target: Target) -> Exactness:
    if request.required_fingerprint in ("", target.digest):
        return target.exactness
    if request.allow_degraded:
        return Exactness.DEGRADED
    raise FingerprintMismatch(
        "this verifier computes other bits than the one the output was begun with",
        expected=request.required_fingerprint,
        got=target.digest or "none: its probe failed",
    )
