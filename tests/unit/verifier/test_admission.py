"""How much cache a session may need, and what the whole verifier may use."""

from __future__ import annotations

import pytest

from hola.config import Settings
from hola.errors import MemoryBudgetExceeded
from hola.ports import EngineInfo
from hola.types import MAX_BLOCK_TOKENS, Open, SamplingParams
from hola_verifier.admission import capacity_of
from hola_verifier.app import kv_budget_bytes
from hola_verifier.target import scripted_target

INFO = EngineInfo(
    name="x",
    vocab_size=300,
    context_length=1000,
    eos_token_ids=(1,),
    kv_bytes_per_token=8,
    weight_bytes=5,
    provider="cpu",
)


def capacity(prompt: int, max_tokens: int, committed: int = 0) -> int:
    request = Open(
        session_id="s",
        model="",
        tokenizer_fingerprint="",
        prompt=(0,) * prompt,
        committed=(0,) * committed,
        sampling=SamplingParams(max_tokens=max_tokens),
    )
    return capacity_of(request, INFO)


@pytest.mark.parametrize("committed", [0, 50, 100])
def test_prompt_output_and_a_block_fit(committed: int) -> None:
    assert capacity(100, 100, committed) == 200 + MAX_BLOCK_TOKENS + 2


def test_more_committed_than_asked_for_still_fits() -> None:
    assert capacity(100, 10, committed=300) == 400 + MAX_BLOCK_TOKENS + 2


def test_the_context_is_the_most() -> None:
    assert capacity(900, 100) == 1000
    assert capacity(10, 1_000_000) == 1000


def test_the_budget_is_what_the_weights_leave() -> None:
    assert kv_budget_bytes(Settings(memory_budget_mb=2), 2**20) == 2**20
    with pytest.raises(MemoryBudgetExceeded) as raised:
        kv_budget_bytes(Settings(memory_budget_mb=2), 2**21)
    assert raised.value.details == {"needed_bytes": str(2**21), "available_bytes": str(2**21)}


def test_without_a_setting_half_of_the_free_memory_is_used() -> None:
    assert 0 < kv_budget_bytes(Settings(), 0) < 2**50


def test_a_scripted_target_is_exact_and_named_by_its_spec() -> None:
    one, same, other = (scripted_target(f"scripted:seed={seed}") for seed in (1, 1, 2))
    assert one.model == "scripted:seed=1"
    assert one.digest == same.digest != other.digest
    assert one.exactness.name == "EXACT"
