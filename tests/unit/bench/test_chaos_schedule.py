"""The chaos schedule and the clients' behaviour: pure functions of a seed, in the issue's shape."""

from __future__ import annotations

from collections import Counter

import pytest

from hola_bench.chaos.behaviour import Crowd, Trick, draw_plan
from hola_bench.chaos.schedule import (
    QUIET_AFTER_S,
    QUIET_BEFORE_S,
    REDIS,
    Fault,
    Kind,
    Shape,
    draw_faults,
    rolling_restart,
)

EVERY = Shape(verifiers=2, drafters=3, routers=2, links=frozenset(Kind))
CROWD = Crowd(seed=3, cases=10, tiers=("draft", "mid"), routers=2)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_run(seed):
    assert draw_faults(seed, 40, EVERY) == draw_faults(seed, 40, EVERY)
    assert draw_faults(seed, 40, EVERY) != draw_faults(seed + 1, 40, EVERY)


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_faults_hit_everything(seed):
    faults = draw_faults(seed, 100, EVERY)
    met = Counter((fault.kind, fault.target.partition("-")[0]) for fault in faults)
    assert len(faults) == 100
    for role in ("verifier", "drafter", "router", REDIS):
        assert met[Kind.KILL, role] >= 3, f"seed {seed}: {role} is hardly killed: {met}"
    for kind in Kind:
        assert any(fault.kind is kind for fault in faults), f"seed {seed}: no {kind}"
    assert {fault.target for fault in faults} == {
        REDIS,
        *(name for role in ("verifier", "drafter", "router") for name in EVERY.names(role)),
    }
    assert all(fault.for_s == 5.0 for fault in faults if fault.kind is Kind.CUT)
    assert all(0 < fault.amount <= 0.2 for fault in faults if fault.kind is Kind.LOSE)
    assert faults[-1].at_s < 600, "the run has to end within ten minutes"


def test_a_few_faults_are_the_commonest():
    assert {(f.kind, f.target.partition("-")[0]) for f in draw_faults(1, 2, EVERY)} == {
        (Kind.KILL, "verifier"),
        (Kind.KILL, "drafter"),
    }


def test_links_that_cannot_be_spoilt_are_left_alone():
    faults = draw_faults(1, 100, Shape())
    assert not {fault.kind for fault in faults} & {Kind.CUT, Kind.LOSE, Kind.DELAY}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_happens_around_a_quiet_fault(seed):
    faults = draw_faults(seed, 100, EVERY)
    assert sum(fault.quiet for fault in faults) >= 15, "too few to measure a stall"
    for quiet in (fault for fault in faults if fault.quiet):
        for other in faults:
            if other.number < quiet.number:
                ends_s = other.at_s + other.for_s
                assert ends_s + QUIET_BEFORE_S <= quiet.at_s + 1e-2, (seed, other, quiet)
            elif other.number > quiet.number:
                assert other.at_s >= quiet.at_s + QUIET_AFTER_S - 1e-2, (seed, other, quiet)


def test_a_rolling_restart_takes_one_verifier_after_the_other():
    assert [(f.kind, f.target) for f in rolling_restart(Shape(verifiers=3), rounds=2)] == [
        (Kind.TERM, f"verifier-{n}") for n in (0, 1, 2, 0, 1, 2)
    ]


def test_a_fault_tells_what_it_is():
    fault = Fault(number=3, at_s=1, kind=Kind.LOSE, target="drafter-1", for_s=4, amount=0.125)
    assert str(fault) == "3: at 1.0 s lose drafter-1 12% for 4.0 s"


def test_clients_differ_and_can_be_repeated():
    plans = [draw_plan(CROWD, number) for number in range(300)]
    assert plans == [draw_plan(CROWD, number) for number in range(300)]
    moves = [move.trick for plan in plans for move in plan.moves]
    assert {plan.case for plan in plans} == set(range(10))
    assert {plan.router for plan in plans} == {0, 1}
    assert moves.count(Trick.DETACH) > 60
    assert moves.count(Trick.CANCEL) > 3
    assert any(plan.keyed and plan.asks_again for plan in plans)
    assert any(plan.local for plan in plans)
    assert not any(plan.asks_again and not plan.keyed for plan in plans)
    assert len({plan.ladder for plan in plans}) >= 6


def test_patient_clients_only_read():
    patient = Crowd(seed=3, cases=10, tiers=("draft",), routers=2, patient=True)
    plans = [draw_plan(patient, number) for number in range(50)]
    assert not any(plan.moves or plan.keyed for plan in plans)
