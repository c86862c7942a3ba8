"""Options become checked domain parameters; what cannot be meant is refused by name."""

from __future__ import annotations

import pytest

from hola.errors import InvalidRequest, InvalidSampling
from hola.types import Mode, Outage, SamplingParams, SpeculationParams
from hola_cli.options import (
    DoorOptions,
    ModeName,
    OutageName,
    SamplingOptions,
    SpeculationOptions,
    parse_ladder,
)


def test_the_defaults_are_the_domains():
    assert SamplingOptions().params() == SamplingParams()
    assert SpeculationOptions().params() == SpeculationParams()


def test_every_option_reaches_its_field():
    options = SamplingOptions(
        temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, seed=7, max_tokens=9, stop=["."],
        stop_token=[4], logprobs=True,
    )  # fmt: skip
    assert options.params() == SamplingParams(
        temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, seed=7, max_tokens=9, stop=(".",),
        stop_token_ids=(4,), logprobs=True,
    )  # fmt: skip
    guess = SpeculationOptions(
        mode=ModeName.gated,
        draft_tokens=4,
        ladder="draft,mid",
        entropy_threshold=0.5,
        outage=OutageName.local,
    )
    assert guess.params() == SpeculationParams(
        mode=Mode.GATED,
        max_draft_tokens=4,
        ladder=("draft", "mid"),
        entropy_threshold=0.5,
        outage=Outage.LOCAL,
    )


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": float("inf")}),
        ("temperature", {"temperature": -0.1}),
        ("seed", {"seed": 2**63}),
        ("seed", {"seed": -1}),
        ("max_tokens", {"max_tokens": 0}),
        ("top_p", {"top_p": 1.5}),
        ("min_p", {"min_p": 2.0}),
        ("top_k", {"top_k": -1}),
        ("stop", {"stop": ["\udcff"]}),
        ("stop", {"stop": [""]}),
        ("stop_token_ids", {"stop_token": [-1]}),
    ],
)
def test_sampling_out_of_range_is_refused_by_name(field, bad):
    with pytest.raises(InvalidSampling) as raised:
        SamplingOptions(**bad).params()
    assert raised.value.details["field"].startswith(field)


@pytest.mark.parametrize(
    "bad", [{"draft_tokens": 65}, {"draft_tokens": -1}, {"entropy_threshold": float("nan")}]
)
def test_speculation_out_of_range_is_refused(bad):
    with pytest.raises(InvalidRequest):
        SpeculationOptions(**bad).params()


@pytest.mark.parametrize(
    ("text", "names"),
    [(None, None), ("none", ()), ("lookup", ("lookup",)), ("lookup, draft", ("lookup", "draft"))],
)
def test_ladders(text, names):
    assert parse_ladder(text) == names


@pytest.mark.parametrize("text", ["", "draft,", "none,draft"])
def test_malformed_ladders(text):
    with pytest.raises(InvalidRequest, match="--ladder"):
        parse_ladder(text)


def test_a_router_and_an_embedded_node_exclude_each_other():
    with pytest.raises(InvalidRequest, match="exclude"):
        DoorOptions(router="localhost:7070", embedded=True)
