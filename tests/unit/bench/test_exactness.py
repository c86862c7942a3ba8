"""The exactness benchmark sees what it is there to see, and says how to see it again."""

from __future__ import annotations

import pytest

from hola.errors import InvalidRequest
from hola.speculation.proposers import LOOKUP
from hola.types import FinishReason, Summary
from hola_bench.cases import TEMPERATURES, Case, cases
from hola_bench.exactness import Options, replay_line, run_on
from hola_bench.exactness.compare import Tally, configurations
from hola_bench.exactness.plans import RandomPacing, RandomTokens, draw, plans
from hola_bench.exactness.shards import Work, split
from hola_bench.models import Models
from hola_bench.plan import every_ladder, ladder_name
from hola_bench.prompts import random_bytes
from hola_bench.rig import Decoded

SCRIPT = "seed=1,vocab_size=300"
MODELS = Models(
    name="scripted",
    target=f"scripted:{SCRIPT}",
    drafts=(("tiny", f"scripted:{SCRIPT},noise=0.7"), ("small", f"scripted:{SCRIPT},noise=0.3")),
)
OPTIONS = Options(models_dir="", model="scripted", jobs=1, chi2_draws=600, max_tokens=12)


def some_cases(count: int = 2) -> list[Case]:
    return cases(random_bytes(count, seed=0), seed=0, max_tokens=12)


def decoded(case: Case, *ids: int) -> Decoded:
    summary = Summary(
        finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=len(ids), rounds=2,
        accepted_tokens=1, reconnects=1,
    )  # fmt: skip
    return Decoded(case=case, ids=ids, summary=summary)


def test_every_prompt_meets_every_temperature_with_a_seed_of_its_own():
    found = some_cases(3)
    assert len(found) == 9
    assert {case.params.temperature for case in found} == set(TEMPERATURES)
    assert len({case.params.seed for case in found}) == 3
    assert len({case.request_id for case in found}) == 9


def test_all_that_the_claim_names_is_compared():
    names = {item.plan.name for item in configurations(MODELS)}
    assert {f"k={k}" for k in range(1, 13)} <= names
    ladders = {"none", "lookup", "tiny", "small", "tiny+small", "lookup+tiny", "lookup+tiny+small"}
    assert {f"ladder={ladder}" for ladder in ladders} <= names
    others = {"k=random", "random-tokens", "interleaved", "threads=2", "threads=2-plain"}
    assert others | {"verifier-restarted", "drafter-killed", "gated"} <= names


def test_ladders_are_all_subsets_in_order():
    found = list(every_ladder((LOOKUP, "a", "b")))
    assert len(found) == 8
    assert found[0] == ()
    assert found[-1] == (LOOKUP, "a", "b")
    assert ladder_name(()) == "none"
    assert ladder_name(found[-1]) == "lookup+a+b"


@pytest.mark.parametrize(
    ("got", "position"), [((1, 2, 9), 2), ((1, 2), 2), ((1, 2, 3, 4), 3), ((9, 2, 3), 0)]
)
def test_a_difference_is_a_mismatch_at_its_position(got, position):
    case = some_cases(1)[0]
    tally = Tally(name="k=1")
    tally.note(decoded(case, *got), (1, 2, 3))
    (mismatch,) = tally.mismatches
    assert (mismatch.position, mismatch.case) == (position, case.name)


def test_equal_output_is_none_and_tallies_add_up():
    case = some_cases(1)[0]
    one, total = Tally(name="k=1"), Tally(name="k=1")
    one.note(decoded(case, 1, 2, 3), (1, 2, 3))
    total.add(one)
    total.add(one)
    assert (total.compared, total.tokens, total.rounds, total.hit) == (2, 6, 4, 2)
    assert total.mismatches == []


def test_a_wrong_reference_is_reported_with_its_replay_line(monkeypatch, capsys):
    monkeypatch.setattr("hola_bench.exactness.compare.decode", lambda *_: (0, 0, 0))
    report = run_on(MODELS, random_bytes(1, seed=0), _only("k=1"))
    assert report.headline["mismatches"] == 3
    (first, *_) = report.details["mismatches"]
    assert first["expected"] == [0, 0, 0]
    line = capsys.readouterr().err.splitlines()[0]
    assert line == first["replay"]
    assert "--configurations k=1 --case random-0000@0 --jobs 1" in line


def test_a_replayed_case_is_the_same_case():
    report = run_on(MODELS, random_bytes(2, seed=0), _only("k=2", case="random-0001@0.7"))
    assert report.details["outputs_compared"] == 1
    assert report.headline == {**report.headline, "prompts": 1, "mismatches": 0}


@pytest.mark.parametrize("changes", [{"configurations": ("k=99",)}, {"case": "nothing@0"}])
def test_unknown_names_are_refused(changes):
    options = Options(models_dir="", model="scripted", jobs=1, chi2_draws=600, **changes)
    with pytest.raises(InvalidRequest, match=r"k=99|nothing"):
        run_on(MODELS, random_bytes(1, seed=0), options)


def _only(name: str, case: str = "") -> Options:
    return Options(
        models_dir="", model="scripted", jobs=1, chi2_draws=600, max_tokens=12,
        configurations=(name,), case=case,
    )  # fmt: skip


def test_replay_lines_name_the_folder_when_it_was_given():
    tally = Tally(name="k=1")
    tally.note(decoded(some_cases(1)[0], 2), (1,))
    options = Options(models_dir="/srv/models", model="m", seed=4)
    line = replay_line(tally.mismatches[0], options)
    assert "--model m --models-dir /srv/models" in line
    assert "--seed 4" in line


def test_random_choices_depend_on_the_case_alone():
    one, other = some_cases(2)[0], some_cases(2)[3]
    lengths = [RandomPacing(one).next_draft_tokens() for _ in range(2)]
    assert lengths[0] == lengths[1]
    again = [RandomPacing(one) for _ in range(2)]
    series = [[pacing.next_draft_tokens() for _ in range(40)] for pacing in again]
    assert series[0] == series[1]
    assert set(series[0]) <= set(range(13))
    tokens = [RandomTokens(case, 300).propose((), 20).tokens for case in (one, one, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(1 <= draw(case, 1, 3) <= 3 for case in some_cases(20))


def test_prompts_are_split_whole_and_limited_configurations_stay_together():
    names = tuple(plan.name for plan in plans(MODELS.draft_names))
    work = Work(models=MODELS, names=names, cases=tuple(some_cases(5)))
    parts = split(work, 2)
    assert sum(len(part.cases) for part in parts) == 15
    prompts = [{case.prompt.name for case in part.cases} for part in parts]
    assert prompts[0].isdisjoint(prompts[1])
    assert len(split(work, 8)) == 5
