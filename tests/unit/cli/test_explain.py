"""A plan in words: harmless on a terminal, complete, and short where there is little to say."""

from __future__ import annotations

from dataclasses import replace

from hola.types import Citation, DepthWeight, Plan, RetrievalMode, RetrievalPlan
from hola_cli.explain import explanation, source_lines

KEPT = Citation(
    number=1,
    collection="work",
    source="manual.pdf",
    title="Manual",
    page=7,
    ranges=((0, 20), (40, 60)),
    text="Press\x1b[2J the button. " + "x" * 300,
    tokens=12,
    bm25=3.21,
    cut="2 sentences left out: fit the question too little",
)
CUT = Citation(number=0, collection="work", source="other.md", dense=0.5, cut="too long")
PLAN = Plan(
    depth=RetrievalPlan.LIGHT,
    mode=RetrievalMode.AUTO,
    reasons=("it pays",),
    notes=("bm25 alone",),
    signals={"q_words": 7.0, "q_digit": 0.0},
    judged_by=("question",),
    weights=(DepthWeight(depth=RetrievalPlan.LIGHT, gain=0.5, helps=0.6, cost_ms=40.0, net=0.498),),
    citations=(KEPT,),
    cuts=(CUT,),
    passage_tokens=12,
    token_budget=100,
    prefill_ms_per_token=1.5,
)


def test_a_source_is_one_harmless_line():
    (line,) = source_lines(PLAN)
    assert line.startswith("[1] manual.pdf, page 7 (Manual): Press\N{REPLACEMENT CHARACTER}[2J the")
    assert line.endswith("x...")
    assert len(line) < 220


def test_everything_is_said():
    assert list(explanation(PLAN)) == [
        "retrieval: light (asked for: auto)",
        "  it pays",
        "  note: bm25 alone",
        "judged by: question",
        "  light: gain +0.500, helps 0.60, costs 40 ms, net +0.498",
        "signals that are not 0: q_words 7",
        "passages: 12 of at most 100 prompt tokens",
        "  kept [1] manual.pdf, page 7 (Manual) in work, bm25 3.21, 12 tokens, characters"
        " 0-20 40-60, 2 sentences left out: fit the question too little",
        "  cut other.md in work, dense 0.5, too long",
        "time: search 0.0 ms, gate 0.0 ms; the target reads at 1.50 ms per prompt token,"
        " measured by the verifier",
    ]


def test_a_long_list_of_cuts_is_cut():
    lines = list(explanation(replace(PLAN, cuts=(CUT,) * 12)))
    assert sum(line.startswith("  cut other.md") for line in lines) == 8
    assert "  cut 4 more (--json has them)" in lines


def test_nothing_retrieved_is_short():
    assert list(explanation(Plan(reasons=("retrieval is off",)))) == [
        "retrieval: none (asked for: off)",
        "  retrieval is off",
        "time: search 0.0 ms, gate 0.0 ms; the target reads at a speed nobody has measured",
    ]
