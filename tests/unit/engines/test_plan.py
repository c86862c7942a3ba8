"""Memory is predicted from a tier's configuration alone."""

from __future__ import annotations

from pathlib import Path

from hola.engines.plan import PROCESS_BYTES, EnginePlan, plan_engine, sessions_that_fit

DEMO = Path(__file__).resolve().parents[3] / "models/demo"


def plan(**changes: int) -> EnginePlan:
    sizes = {"weight_bytes": 1000, "workspace_bytes": 10, "kv_bytes_per_token": 8}
    return EnginePlan(name="x", **{**sizes, "context_length": 512, **changes})


def test_a_session_has_one_more_row_and_never_more_than_the_context() -> None:
    assert plan().session_bytes(100) == 101 * 8
    assert plan().session_bytes(512) == plan().session_bytes(9999) == 512 * 8


def test_sessions_share_what_the_weights_leave() -> None:
    budget = PROCESS_BYTES + 1010 + 10 * plan().session_bytes(100)
    assert sessions_that_fit([plan()], budget, 100) == 10
    assert sessions_that_fit([plan()], budget - 1, 100) == 9
    assert sessions_that_fit([plan()], PROCESS_BYTES + 1010, 100) == 0
    assert sessions_that_fit([plan()], PROCESS_BYTES + 1009, 100) == -1


def test_half_precision_halves_the_cache() -> None:
    full = plan_engine(DEMO / "target", quantization="int8")
    half = plan_engine(DEMO / "target", quantization="fp16")
    assert full.kv_bytes_per_token == 2 * half.kv_bytes_per_token == 2 * 7 * 12 * 32 * 4
