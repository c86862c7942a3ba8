"""Rates, ratios and counters of the speed benchmark."""

from __future__ import annotations

import time

import pytest

from hola.errors import ArtifactInvalid
from hola.types import SamplingParams
from hola_bench.cases import Case
from hola_bench.exactness import reference
from hola_bench.models import Models, load
from hola_bench.prompts import random_bytes
from hola_bench.speed import ladders, plain
from hola_bench.speed.draft_step import RunTimer
from hola_bench.speed.scale import scale_models

MODELS = Models(
    name="scripted",
    target="scripted:seed=1,vocab_size=300,eos_bias=2",
    drafts=(("tiny", "scripted:seed=1,vocab_size=300,eos_bias=2,noise=0.5"),),
)


def runs(name: str, *rates: float) -> ladders.Runs:
    return ladders.Runs(name=name, decode=list(rates), whole=list(rates))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_both_plain_loops_write_the_same(temperature):
    engine = load(MODELS, threads=1).target
    lengths = set()
    for prompt in random_bytes(12, seed=1):
        params = SamplingParams(temperature=temperature, seed=3, max_tokens=20)
        timed = plain.decode(engine, Case(prompt=prompt, params=params))
        assert timed.ids == reference.decode(engine, prompt.ids, params)
        assert timed.decode_s > 0
        lengths.add(len(timed.ids))
    assert max(lengths) == 20
    assert min(lengths) < 20, "no text ended by itself: the test sees nothing of that"


def test_every_ladder_is_timed_and_nothing_twice():
    names = [plan.name for plan in ladders.plans(MODELS)]
    assert len(set(names)) == len(names)
    assert {ladders.SESSION, "lookup", "tiny", "lookup+tiny", "lookup+tiny, k=3"} <= set(names)


def test_speculation_is_compared_with_the_faster_plain_way():
    found = [
        runs(ladders.LOOP, 10, 12, 11),
        runs(ladders.SESSION, 9, 9, 9),
        runs("lookup", 8, 8, 8),
        runs("tiny", 20, 18, 22),
    ]
    best, baseline = ladders.best_ladder(found), ladders.best_plain(found)
    assert (best.name, baseline.name) == ("tiny", ladders.LOOP)
    assert ladders.over(best, baseline) == [2.0, 1.5, 2.0]
    rows = {row["method"]: row for row in ladders.rows(found)}
    assert rows["tiny"]["over_plain"]["median"] == 2.0
    assert rows["lookup"]["over_plain"]["median"] < 1, "slower ladders are published too"


def test_time_inside_the_runtime_is_counted():
    class Session:
        def run(self, binding):
            time.sleep(0)

    session = Session()
    timer = RunTimer(session)
    for _ in range(5):
        session.run(None)
    assert timer.inside_ns > 0


def test_a_scale_folder_must_be_a_model(tmp_path):
    with pytest.raises(ArtifactInvalid, match="genai_config"):
        scale_models(None, str(tmp_path))  # type: ignore[arg-type]


def test_no_scale_model_is_no_scale_model():
    assert scale_models(None, "none") is None  # type: ignore[arg-type]
