"""On the shipped tiers: hidden states come out of logits, doubt goes with what is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hola.config import Settings
from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family
from hola.models.prompt import render_chat
from hola.models.store import ModelStore
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.fit import FitOptions
from hola.retrieval.gate.head import LARGEST_MISFIT, load_head
from hola.retrieval.gate.place import find_gate
from hola.retrieval.gate.policy import Costs, Depth, decide
from hola.types import ChatMessage
from hola_bench.retrieval import lookup
from hola_bench.retrieval.demo_ask import asked_of, measure_asking
from hola_bench.retrieval.gate_demo import ask_all, facts_of, measure_demo, says
from hola_bench.retrieval.lookup import measure_lookup


@pytest.fixture(scope="module")
def family(request) -> Family:
    models = Path(__file__).parents[3] / "models"
    if not (models / "demo/hola.json").is_file():
        if request.config.getoption("--require-all"):
            pytest.fail("models/demo is not in this checkout")
        pytest.skip("models/demo is not in this checkout")
    return ModelStore.at(str(models)).get("demo")


@pytest.mark.parametrize("tier", ["draft", "target"])
def test_the_output_layer_explains_the_graphs_logits(family, tier):
    folder = family.tier(tier).path
    engine, head = load_engine(folder, threads=1), load_head(folder)
    assert head is not None
    session = engine.open(8)
    logits = session.forward([5, 6, 7]).astype(float)
    session.close()
    engine.close()
    assert head.misfit(logits) < LARGEST_MISFIT / 2
    assert head.hidden(logits).shape == (3, head.weight.shape[1])


def test_signals_hold_gradients_and_the_target_agrees_with_itself(family):
    folder = family.target.path
    engine, head = load_engine(folder, threads=1), load_head(folder)
    tokenizer = load_tokenizer(folder)
    question = facts_of(family)[-1].question
    text = render_chat(family, [ChatMessage(role="user", content=question)])
    draft = draft_answer(engine, tokenizer.encode(text), head=head)
    check = check_answer(engine, tokenizer.encode(text), draft.tokens, head=head)
    engine.close()
    assert draft.signals["u_gradient_mean"] > 0
    assert check["c_agrees"] == 1
    assert check["c_weight_gradient"] == pytest.approx(
        draft.signals["u_weight_gradient"], rel=0.05, abs=1e-3
    )


def test_doubt_tells_facts_never_met_from_those_met_often(family):
    """Every thirtieth fact: 48, of each exposure bucket 8."""
    asked = ask_all(family, facts_of(family)[::30], threads=1)
    headline, details = measure_demo(asked, FitOptions(trees=20, min_leaf=4, folds=4))
    assert headline["demo_gate_auroc"] > 0.6
    best = {row["signal"]: row for row in details["demo_signals"] if row["tier"] == "mid"}
    assert best["u_nll_max"]["auroc_never_met_or_100_times"] > 0.8
    assert details["demo_decisions"]["always"] > details["demo_decisions"]["never"] + 0.3
    assert sum(item.light for item in asked) > 42


def test_what_a_reply_says():
    assert says("The answer is Foxley.", "Foxley")
    assert not says("The answer is Foxley.", "Fox")
    assert not says("", "Foxley")


def test_the_familys_own_gate_knows_its_questions(family):
    """On a device where a passage costs 3 s: facts never met retrieve, those met often do not."""
    gate = find_gate(Settings(data_dir="/nonexistent"), family.path)
    assert gate is not None
    assert {"q", "u", "c"} <= gate.needs()
    drafter = load_engine(family.ladder[-1].path, threads=1)
    target = load_engine(family.target.path, threads=1)
    tokenizer = load_tokenizer(family.target.path)
    slow = Costs(prefill_ms_per_token=50, light_tokens=60, deep_tokens=180)

    def depth(question: str) -> Depth:
        text = render_chat(family, [ChatMessage(role="user", content=question)])
        prompt = tokenizer.encode(text)
        draft = draft_answer(drafter, prompt)
        signals = gate.signals(question) | draft.signals
        judged = gate.judge(signals | check_answer(target, prompt, draft.tokens))
        decision = decide(judged.estimates, slow)
        assert len(decision.reasons) >= 2
        return decision.depth

    facts = facts_of(family)
    never = [fact.question for fact in facts if fact.exposures == 0][::20]
    often = [fact.question for fact in facts if fact.exposures == 100][::20]
    lines = (family.path / "heldout/word_problems.jsonl").read_text("utf-8").splitlines()
    sums = [json.loads(line)["prompt"] for line in lines[1::40]]
    try:
        retrieved = [
            sum(depth(question) is not Depth.NONE for question in questions) / len(questions)
            for questions in (never, often, sums)
        ]
    finally:
        drafter.close()
        target.close()
    assert retrieved[0] >= 0.8, retrieved
    assert retrieved[1] <= 0.3, retrieved
    assert retrieved[2] <= 0.2, retrieved


def test_the_target_asked_in_every_way(family):
    """Of six people, three of whom the gate was not fitted on."""
    facts = facts_of(family)
    people = list(dict.fromkeys(fact.entity for fact in facts))
    kept = {name for at in range(0, len(people), 120) for name in people[at : at + 2]}
    some = [fact for fact in facts if fact.entity in kept]
    settings = Settings(embedder="none", threads=1)
    headline, details = measure_asking(family, some, settings)
    assert set(headline) == {"demo_accuracy_gap", "demo_token_share", "demo_latency_share"}
    ways = {row["way"]: row for row in details["demo_ways"]}
    assert ways["never"]["accuracy"] < ways["adaptive"]["accuracy"]
    assert ways["always, k=1"]["accuracy"] > 0.8
    assert ways["never"]["retrieved"] == 0 < ways["adaptive"]["retrieved"] < 1
    assert ways["always, k=5"]["prompt_tokens"] > ways["adaptive"]["prompt_tokens"]
    assert details["demo_asked"] == len(asked_of(some)) == len(some) / 2


def test_lookup_copies_from_passages(family, monkeypatch):
    monkeypatch.setattr(lookup, "QUESTIONS", 6)
    rows = {row["ladder"]: row for row in measure_lookup(family, threads=1)["demo_lookup"]}
    without, read = rows["lookup without the passages"], rows["lookup"]
    assert read["accepted_per_verify"] > without["accepted_per_verify"]
    assert rows["lookup, draft"]["accepted_per_verify"] == rows["draft"]["accepted_per_verify"]
    assert rows["lookup, draft"]["draft_passes_per_token"] < rows["draft"]["draft_passes_per_token"]
