"""Range checks: everything in range passes, everything else is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hola.errors import InvalidRequest, InvalidSampling
from hola.plan import MAX_LOOKUP_CHARS, MAX_LOOKUP_TEXTS
from hola.types import Mode, RetrievalMode, RetrievalParams, SamplingParams, SpeculationParams
from hola.validate import (
    check_lookup_texts,
    check_request_id,
    check_retrieval,
    check_sampling,
    check_speculation,
)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=100, top_k=2**31 - 1, top_p=1e-300, min_p=1, seed=2**63 - 1),
        SamplingParams(temperature=5e-324, max_tokens=1_048_576, stop=("x" * 256,) * 16),
        SamplingParams(max_tokens=1, stop=("€" * 85, "\0"), stop_token_ids=tuple(range(64))),
        SamplingParams(stop_token_ids=(2**32 - 1,)),
    ],
)
def test_accepts_the_whole_range(params: SamplingParams) -> None:
    check_sampling(params)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", bad) for bad in (-0.1, 100.1, math.nan, math.inf, "1", None, True)],
        *[("top_p", bad) for bad in (0, -1, 1.01, math.nan, math.inf, "1", None)],
        *[("min_p", bad) for bad in (-0.01, 1.01, math.nan, -math.inf, [], None)],
        *[("top_k", bad) for bad in (-1, 2**31, 1.0, math.nan, "5", True)],
        *[("seed", bad) for bad in (-1, 2**63, 0.5, None, False)],
        *[("max_tokens", bad) for bad in (0, -1, 1_048_577, 2.0, None)],
        ("stop", ("",)),
        ("stop", ("ok", "x" * 257)),
        ("stop", ("€" * 86,)),
        ("stop", ("a",) * 17),
        ("stop", ("\ud800",)),
        ("stop", (b"bytes",)),
        ("stop_token_ids", (1,) * 65),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", (2**32,)),
        ("stop_token_ids", (1.5,)),
    ],
)
def test_refuses_the_rest_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidSampling, match=f"^{field} is .*, expected ") as caught:
        check_sampling(replace(SamplingParams(), **{field: value}))
    assert caught.value.details["field"] == field
    assert caught.value.details["expected"]
    caught.value.message.encode()


def test_stop_tokens_lie_inside_a_known_vocabulary() -> None:
    check_sampling(SamplingParams(stop_token_ids=(99,)), vocab_size=100)
    with pytest.raises(InvalidSampling, match="stop_token_ids is 100, expected 0 to 99"):
        check_sampling(SamplingParams(stop_token_ids=(100,)), vocab_size=100)


def test_a_huge_value_is_shown_in_part() -> None:
    with pytest.raises(InvalidSampling) as caught:
        check_sampling(replace(SamplingParams(), top_k="9" * 10_000))
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "params",
    [
        SpeculationParams(),
        SpeculationParams(mode=Mode.GATED, max_draft_tokens=0, entropy_threshold=100),
        SpeculationParams(max_draft_tokens=64, entropy_threshold=1e-9, ladder=("lookup", "tiny")),
        SpeculationParams(ladder=()),
    ],
)
def test_accepts_speculation(params: SpeculationParams) -> None:
    check_speculation(params)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("max_draft_tokens", bad) for bad in (-1, 65, 1.0, "3", True)],
        *[("entropy_threshold", bad) for bad in (0, -1, 100.5, math.nan, math.inf, None, "1")],
        *[("ladder", bad) for bad in (("",), (3,), ("a",) * 17)],
    ],
)
def test_refuses_speculation_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field} is ") as caught:
        check_speculation(replace(SpeculationParams(), **{field: value}))
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("request_id", ["a", "A.b_c-9", "x" * 128])
def test_accepts_a_request_id(request_id: str) -> None:
    check_request_id(request_id)


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "a/b", "ä", "a\n", None, 7, b"a"])
def test_refuses_a_request_id(request_id: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^request_id is "):
        check_request_id(request_id)


@pytest.mark.parametrize(
    "params",
    [
        RetrievalParams(),
        RetrievalParams(mode=RetrievalMode.OFF),
        RetrievalParams(collections=("a",) * 16),
        RetrievalParams(
            mode=RetrievalMode.DEEP,
            collections=("a",),
            max_passage_tokens=1_048_576,
            latency_target_ms=3_600_000,
        ),
    ],
)
def test_accepts_retrieval_in_range(params: RetrievalParams) -> None:
    check_retrieval(params)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("collections", {"collections": ("a",) * 17}),
        *[("collections", {"mode": mode, "collections": ()}) for mode in list(RetrievalMode)[1:]],
        *[("max_passage_tokens", {"max_passage_tokens": bad}) for bad in (-1, 1_048_577, 1.5)],
        *[("latency_target_ms", {"latency_target_ms": bad}) for bad in (-1, 3_600_001, True)],
    ],
)
def test_refuses_retrieval_out_of_range(field: str, changes: dict[str, object]) -> None:
    params = replace(RetrievalParams(collections=("a",)), **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        check_retrieval(params)
    assert caught.value.details["field"] == field


def test_lookup_texts_are_bounded() -> None:
    check_lookup_texts(("x" * MAX_LOOKUP_CHARS,))
    check_lookup_texts(("",) * MAX_LOOKUP_TEXTS)
    for texts in (("x" * MAX_LOOKUP_CHARS, "y"), ("",) * (MAX_LOOKUP_TEXTS + 1)):
        with pytest.raises(InvalidRequest) as caught:
            check_lookup_texts(texts)
        assert caught.value.details["field"] == "lookup_texts"
