"""The report of a chaos run, and what a failing one prints so that the cause can be found."""

from __future__ import annotations

import json

import pytest

from hola.types import (
    FinishReason,
    Outcome as TokenOutcome,
    SamplingParams,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_bench.cases import Case
from hola_bench.chaos.behaviour import Crowd, draw_plan
from hola_bench.chaos.fleet import Exit
from hola_bench.chaos.inject import Injected
from hola_bench.chaos.judge import Expected
from hola_bench.chaos.options import Options
from hola_bench.chaos.run import Outcome
from hola_bench.chaos.schedule import Shape, draw_faults
from hola_bench.chaos.summary import failed, report
from hola_bench.chaos.transcript import OVER, Connection, Transcript
from hola_bench.chaos.workload import Work
from hola_bench.prompts import Prompt

OPTIONS = Options(models_dir="", model="scripted", seed=4)
CROWD = Crowd(seed=4, cases=1, tiers=(), routers=1, patient=True)
WORK = Work(
    tiers=(),
    cases=(Case(prompt=Prompt(name="p", task="t", ids=(1,)), params=SamplingParams()),),
    texts=("p",),
    expected=(Expected(ids=(5, 6), text="56"),),
)


def transcript(*ids: int, ended: bool = True, why: str = OVER) -> Transcript:
    events = [(1.0, Tokens(position=0, tokens=tuple(map(token, ids))))]
    if ended:
        end = Summary(
            finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=len(ids)
        )
        events.append((4.0, end))
    connection = Connection(
        began_s=0.5, router="router-0", call="Generate", position=0, events=events, why=why
    )
    return Transcript(
        plan=draw_plan(CROWD, 0),
        request_id="the-request",
        began_s=0.5,
        connections=[connection],
        ended_s=4.0,
    )


def token(number: int) -> TokenEvent:
    return TokenEvent(token=number, text=str(number), tier=0, outcome=TokenOutcome.PLAIN)


def outcome(*transcripts: Transcript, trouble: str = "") -> Outcome:
    faults = draw_faults(4, 2, Shape())
    kill = next(fault for fault in faults if fault.target.startswith("verifier"))
    return Outcome(
        faults=faults,
        injected=[Injected(fault=kill, hit_s=2.0, over_s=3.0)],
        transcripts=list(transcripts),
        exits=[Exit(name="router-0", code=0, seconds=0.5)],
        network={"network": "none"},
        seconds=5.0,
        trouble=trouble,
    )


def test_a_clean_run_prints_nothing_and_measures_the_stall(capsys):
    found = report(OPTIONS, WORK, outcome(transcript(5, 6)))
    assert capsys.readouterr().err == ""
    assert not failed(OPTIONS, found)
    assert found.headline == {
        "streams": 1, "faults": 1, "wrong": 0, "lost": 0, "duplicated": 0, "unfinished": 0,
        "client_errors": 0, "stall_p99_s": 3.0,
    }  # fmt: skip
    assert found.details["streams_under_a_fault"] == 1
    assert found.details["longest_pause_s"] == 3.0
    assert found.details["stopped_by_sigterm"][0]["exit_codes"] == "0"
    json.dumps(found.as_json())


@pytest.mark.parametrize(
    ("harm", "one"),
    [
        ("wrong", transcript(5, 9)),
        ("lost", transcript(5)),
        ("unfinished", transcript(5, 6, ended=False)),
    ],
)
def test_a_harmed_stream_is_told_with_the_seed_and_the_schedule(harm, one, capsys):
    found = report(OPTIONS, WORK, outcome(one))
    assert failed(OPTIONS, found)
    assert found.headline[harm] == 1
    said = capsys.readouterr().err
    assert "seed 4" in said
    assert "the-request" in said
    assert "2.00..3.00 s" in said
    assert "not reached" in said
    assert harm in said


def test_a_run_that_was_broken_off_failed(capsys):
    found = report(OPTIONS, WORK, outcome(transcript(5, 6), trouble="verifier-0 ended with 1"))
    assert failed(OPTIONS, found)
    assert "verifier-0 ended with 1" in capsys.readouterr().err


def test_in_a_rolling_restart_a_broken_call_is_a_harm():
    rolling = Options(models_dir="", model="scripted", seed=4, rolling=1)
    found = report(rolling, WORK, outcome(transcript(5, 6, why="SERVICE_UNAVAILABLE: x")))
    assert found.headline["client_errors"] == 1
    assert failed(rolling, found)
    assert not failed(OPTIONS, found)
