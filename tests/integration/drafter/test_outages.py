"""Outage policies with a real gRPC verifier that goes away and comes back, behind the real pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.transcript import Transcript
from hola.types import Exactness, Failure, Outage, Outcome, SpeculationParams, Summary, Tokens
from tests.integration.drafter.test_verifier_trouble import JOB, expected, station
from tests.support.system import terminal

LOCAL = replace(JOB, speculation=SpeculationParams(max_draft_tokens=3, outage=Outage.LOCAL))
FAIL = replace(JOB, speculation=SpeculationParams(max_draft_tokens=3, outage=Outage.FAIL))


def read(events):
    transcript = Transcript()
    for event in events:
        transcript.note(event)
    return transcript


async def until_back(made, wanted, *, down_at, back_after):
    """Events of a request; the verifier goes at one event, and comes back after some local ones."""
    events, alone = [], 0
    async for event in made.drafter.drafter.generate(wanted):
        events.append(event)
        if len(events) == down_at:
            await made.down()
        if isinstance(event, Tokens):
            alone += event.tokens[0].outcome is Outcome.UNVERIFIED
        if alone == back_after and made.verifier is None:
            await made.up()
    return events


@pytest.mark.parametrize("down_at", [1, 3, 6])
async def test_a_verifier_that_comes_back_makes_the_text_its_own(tmp_path, down_at):
    async with station(tmp_path, verifier_wait_s=60.0) as made:
        await made.up()
        events = await until_back(made, LOCAL, down_at=down_at, back_after=2)
        summary = terminal(events)
        assert isinstance(summary, Summary), summary
        assert [token.token for token in read(events).tokens] == expected(made)
        assert summary.exactness is Exactness.EXACT
        assert summary.corrections == 1
        assert summary.unverified_tokens == 0


async def test_a_request_may_begin_without_any(tmp_path):
    async with station(tmp_path, verifier_wait_s=60.0) as made:
        events = await until_back(made, LOCAL, down_at=0, back_after=1)
        assert events[0].exactness is Exactness.UNVERIFIED
        assert [token.token for token in read(events).tokens] == expected(made)
        assert terminal(events).exactness is Exactness.EXACT


async def test_one_that_stays_away_leaves_the_text_unverified(tmp_path):
    async with station(tmp_path, verifier_wait_s=0.5) as made:
        events = await made.generate(LOCAL)
        summary = terminal(events)
        assert isinstance(summary, Summary), summary
        assert summary.exactness is Exactness.UNVERIFIED
        assert summary.unverified_tokens == summary.completion_tokens == 40


async def test_fail_does_not_wait(tmp_path):
    async with station(tmp_path, verifier_wait_s=3600.0, connect_timeout_s=3600.0) as made:
        events = await made.generate(FAIL)
        assert [type(event) for event in events] == [Failure]
        assert events[0].reason == "VERIFIER_UNAVAILABLE"
        await made.up()
        events = await made.generate(FAIL, at_event={3: made.down})
        assert terminal(events).reason == "VERIFIER_UNAVAILABLE"
        ids = [token.token for token in read(events).tokens]
        assert ids == expected(made)[: len(ids)]
