"""The judge of a chaos run: each harm has its name, and an unharmed stream has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_bench.chaos.behaviour import Move, Plan, Trick
from hola_bench.chaos.inject import Injected
from hola_bench.chaos.judge import Expected, judge
from hola_bench.chaos.schedule import Fault, Kind
from hola_bench.chaos.stalls import longest_pause, percentile, stalls
from hola_bench.chaos.transcript import DETACHED, OVER, Connection, Transcript

EXPECTED = Expected(ids=(5, 6, 7, 8), text="5678")
PLAN = Plan(
    number=1,
    case=0,
    ladder=None,
    draft_tokens=None,
    router=0,
    keyed=False,
    asks_again=False,
    local=False,
    moves=(),
)
STARTED = Started(
    request_id="r", model="m", tiers=("t",), fingerprint="", exactness=Exactness.EXACT,
    prompt_tokens=1,
)  # fmt: skip
END = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=4)


def tokens(position, *ids):
    events = tuple(TokenEvent(token=i, text=str(i), tier=0, outcome=Outcome.PLAIN) for i in ids)
    return Tokens(position=position, tokens=events)


def connection(position, *events, why=OVER, began_s=0.0):
    times = [(began_s + n / 10, event) for n, event in enumerate(events)]
    return Connection(
        began_s=began_s, router="router-0", call="Resume", position=position, events=times, why=why
    )


def transcript(*connections, plan=PLAN, trouble=""):
    return Transcript(
        plan=plan, request_id="r", began_s=0, connections=list(connections), trouble=trouble
    )


def kinds(found):
    return {line.partition(":")[0] for line in found.told()}


CLEAN = {
    "one connection": [connection(0, STARTED, tokens(0, 5, 6), tokens(2, 7, 8), END)],
    "two connections": [
        connection(0, STARTED, tokens(0, 5, 6), why="lost"),
        connection(2, STARTED, tokens(2, 7, 8), END),
    ],
    "asked from the start again": [
        connection(0, STARTED, tokens(0, 5, 6), why="lost"),
        connection(0, STARTED, tokens(0, 5, 6, 7, 8), END),
    ],
    "corrected": [
        connection(0, STARTED, tokens(0, 5, 9, 9), Correction(position=1), tokens(1, 6, 7, 8), END)
    ],
}


@pytest.mark.parametrize("name", CLEAN)
def test_an_unharmed_stream(name):
    found = judge(transcript(*CLEAN[name]), EXPECTED)
    assert found.clean, found.told()


HARMED = {
    "wrong token": ({"wrong"}, [connection(0, STARTED, tokens(0, 5, 6, 9, 8), END)]),
    "too many": (
        {"wrong"},
        [connection(0, tokens(0, 5, 6, 7, 8, 9), replace(END, completion_tokens=5))],
    ),
    "came again as another": (
        {"wrong"},
        [connection(0, tokens(0, 5), why="x"), connection(0, tokens(0, 4, 6, 7, 8), END)],
    ),
    "gap": ({"lost"}, [connection(0, tokens(0, 5, 6), tokens(3, 8), END)]),
    "short": ({"lost"}, [connection(0, tokens(0, 5, 6), replace(END, completion_tokens=2))]),
    "summary counts others": (
        {"lost"},
        [connection(0, tokens(0, 5, 6, 7, 8), replace(END, completion_tokens=5))],
    ),
    "tokens twice": ({"duplicated"}, [connection(0, tokens(0, 5, 6), tokens(1, 6, 7, 8), END)]),
    "end twice": ({"duplicated"}, [connection(0, tokens(0, 5, 6, 7, 8), END, END)]),
    "started twice": (
        {"duplicated"},
        [connection(0, STARTED, STARTED, tokens(0, 5, 6, 7, 8), END)],
    ),
    "no end": ({"unfinished"}, [connection(0, tokens(0, 5, 6, 7, 8))]),
    "failed": (
        {"unfinished"},
        [connection(0, tokens(0, 5), Failure(reason="X", message="x", grpc_code=13))],
    ),
    "cancelled by nobody": (
        {"unfinished"},
        [connection(0, tokens(0, 5, 6, 7, 8), replace(END, finish_reason=FinishReason.CANCELLED))],
    ),
}


@pytest.mark.parametrize("name", HARMED)
def test_every_harm_has_its_name(name):
    expected, connections = HARMED[name]
    found = judge(transcript(*connections), EXPECTED)
    assert expected <= kinds(found), found.told()


def test_other_text_of_the_same_tokens_is_wrong():
    same_ids = connection(0, tokens(0, 5, 6, 7, 8), END)
    assert kinds(judge(transcript(same_ids), replace(EXPECTED, text="567"))) == {"wrong"}


def test_unverified_output_is_allowed_to_those_who_asked_for_it():
    end = replace(END, exactness=Exactness.UNVERIFIED)
    one = [connection(0, STARTED, tokens(0, 5, 9, 9, 9), end)]
    assert judge(transcript(*one, plan=replace(PLAN, local=True)), EXPECTED).clean
    assert kinds(judge(transcript(*one), EXPECTED)) == {"wrong"}


def test_trouble_is_unfinished():
    assert kinds(judge(transcript(trouble="no end within 9 s"), EXPECTED)) == {"unfinished"}


def test_a_client_that_cancels_gets_a_beginning():
    plan = replace(PLAN, moves=(Move(after_tokens=1, trick=Trick.CANCEL),))
    end = replace(END, finish_reason=FinishReason.CANCELLED, completion_tokens=2)
    assert judge(transcript(connection(0, tokens(0, 5, 6), end), plan=plan), EXPECTED).clean
    wrong = transcript(connection(0, tokens(0, 5, 9), end), plan=plan)
    assert kinds(judge(wrong, EXPECTED)) == {"wrong"}


def test_a_transcript_tells_its_connections():
    one = transcript(
        connection(0, STARTED, tokens(0, 5, 6), why=DETACHED), connection(2, why="lost")
    )
    text = "\n".join(one.told())
    assert "tokens 0..2" in text
    assert "no event; lost" in text
    assert (one.breaks, one.received, one.summary) == (1, 2, None)


@pytest.mark.parametrize(
    ("times", "hit_s", "pause"),
    [
        ([0.0, 1.0, 4.0, 4.5], 2.0, 3.0),  # the fault is within a pause
        ([0.0, 1.0, 1.1, 3.0, 3.1], 1.05, 1.9),  # a last answer came after the fault
        ([0.0, 1.0, 2.5, 9.0], 1.2, 1.5),  # a pause that begins later is not the fault's
        ([0.0, 1.0], 1.5, None),  # it was over
        ([2.0, 3.0], 1.5, None),  # it had not begun
        ([], 1.5, None),
    ],
)
def test_the_pause_around_a_fault(times, hit_s, pause):
    assert longest_pause(times, hit_s) == (None if pause is None else pytest.approx(pause))


def test_a_pause_of_the_clients_own_is_no_stall():
    fault = Fault(number=0, at_s=1, kind=Kind.KILL, target="verifier-1", for_s=1, quiet=True)
    injected = [Injected(fault=fault, hit_s=0.15)]
    here = connection(0, STARTED, tokens(0, 5), tokens(1, 6), why=DETACHED)
    later = connection(2, tokens(2, 7, 8), END, began_s=50.0)
    (stall,) = stalls([transcript(here, later)], injected)
    assert stall.seconds == pytest.approx(0.1)
    assert (stall.kind, stall.role, stall.quiet) == (Kind.KILL, "verifier", True)


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([], 0.99) == 0.0
