"""Outage.LOCAL step by step: what is written alone, sent afterwards, confirmed or taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.errors import EngineFailure, PromptTooLong, VerifierUnavailable
from hola.ports import Proposal
from hola.speculation.actions import Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.types import (
    CancelSession,
    Correction,
    DraftBlock,
    Exactness,
    Failure,
    FinishReason,
    Mode,
    Outage,
    Outcome,
    SamplingParams,
    SpeculationParams,
    Started,
    TierCounts,
    TokenEvent,
    Tokens,
    Verdict,
)
from tests.unit.speculation.drive import EOS
from tests.unit.speculation.steps import OPENED, A, B, C, D, E, Script, draft, make, open_up

LOCAL = SpeculationParams(outage=Outage.LOCAL)
GONE = VerifierUnavailable("nobody there")


class Pen:
    """A writer that writes what it is told, piece by piece; an exception is raised."""

    def __init__(self, *pieces: tuple[int, ...] | Exception) -> None:
        self.pieces = list(pieces)
        self.asked: list[tuple[list[int], int]] = []

    def write(self, prefix, k):
        self.asked.append((list(prefix), k))
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        count = len(piece)
        return Proposal(tokens=piece, tiers=("tiny",) * count, entropies=(9.0,) * count)


def local(*pieces, proposals=(), speculation=LOCAL, **changes) -> DrafterSession:
    changes.setdefault("eos_of_drafts", (EOS,))
    changes.setdefault("writer", Pen(*pieces))
    return make(*proposals, speculation=speculation, **changes)


def alone(session: DrafterSession, drafts: int) -> list:
    """Lose the verifier and write that many pieces; the events, and a Draft if one is due.

    The ladder has no idea for a draft that is under way.
    """
    session.reopen()
    actions = session.write_locally()
    if not actions:
        actions = session.on_draft(Proposal(), 0)
    for _ in range(drafts):
        assert actions[-1] == Draft()
        actions = actions[:-1] + draft(session)
    return actions


def told(position: int, *tokens: int, text: str) -> Emit:
    return Emit(
        Tokens(
            position=position,
            tokens=tuple(
                TokenEvent(token=token, text=piece, tier=1, outcome=Outcome.UNVERIFIED)
                for token, piece in zip(tokens, text, strict=True)
            ),
        )
    )


def test_what_is_written_alone_is_emitted_unverified() -> None:
    session = local((A, B), (C,))
    session.start()
    assert alone(session, 2) == [
        Emit(
            Started(
                request_id="r1",
                model="demo",
                tiers=("lookup", "tiny", "target"),
                fingerprint="",
                exactness=Exactness.UNVERIFIED,
                prompt_tokens=2,
            )
        ),
        told(0, A, B, text="ab"),
        told(2, C, text="c"),
        Draft(),
    ]
    assert session.writer.asked == [([A, B], 8), ([A, B, A, B], 8)]
    assert session.output == ()


def test_a_verifier_that_is_back_gets_it_as_a_block_and_agrees() -> None:
    session = local((C, D, E))
    open_up(session)
    alone(session, 1)
    assert session.on_opened(OPENED, 9) == []
    # The draft that was under way is not needed any more.
    assert session.on_draft(Proposal(), 0) == [
        Send(DraftBlock(round=1, base_position=0, tokens=(C, D, E)))
    ]
    confirmed, bonus, following = session.on_verdict(Verdict(round=1, accepted=3, token=A), 9)
    assert confirmed == Emit(Correction(position=3, fingerprint="f1"))
    assert bonus.event.position == 3
    assert [(t.token, t.outcome) for t in bonus.event.tokens] == [(A, Outcome.BONUS)]
    assert following == Draft()
    summary = session.cancel()[0].event
    assert (summary.accepted_tokens, summary.bonus_tokens, summary.corrections) == (3, 1, 1)
    assert summary.tiers[1] == TierCounts(tier="tiny", proposed_tokens=3, accepted_tokens=3)
    assert summary.exactness is Exactness.EXACT


def test_where_the_target_disagrees_the_rest_is_void() -> None:
    session = local((C, D, E))
    open_up(session)
    alone(session, 1)
    session.on_opened(OPENED, 9)
    session.on_draft(Proposal(), 0)
    correction, corrected, _ = session.on_verdict(Verdict(round=1, accepted=1, token=A), 9)
    assert correction == Emit(Correction(position=1, fingerprint="f1"))
    assert corrected == Emit(
        Tokens(
            position=1,
            tokens=(TokenEvent(token=A, text="a", tier=1, outcome=Outcome.CORRECTED),),
        )
    )
    assert session.output == (C, A)
    summary = session.cancel()[0].event
    assert (summary.completion_tokens, summary.unverified_tokens) == (2, 0)
    assert summary.tiers[1] == TierCounts(tier="tiny", proposed_tokens=3, accepted_tokens=1)


def test_the_target_s_own_token_may_be_the_next_that_waits() -> None:
    """64 tokens a block; the verdict's 65th token is compared as well."""
    session = local((A,) * 8, *([(A,) * 8] * 8), sampling=SamplingParams(max_tokens=500))
    open_up(session)
    alone(session, 9)
    session.on_opened(OPENED, 9)
    [send] = session.on_draft(Proposal(), 0)
    assert send.message.tokens == (A,) * 64
    [send] = session.on_verdict(Verdict(round=1, accepted=64, token=A), 9)
    assert send.message == DraftBlock(round=2, base_position=65, tokens=(A,) * 7)
    confirmed, _, _ = session.on_verdict(Verdict(round=2, accepted=7, token=B), 9)
    assert confirmed.event.position == 72
    summary = session.cancel()[0].event
    assert (summary.accepted_tokens, summary.bonus_tokens) == (72, 1)
    assert summary.tiers[1] == TierCounts(tier="tiny", proposed_tokens=72, accepted_tokens=72)


def test_a_block_in_flight_is_the_first_thing_written() -> None:
    session = local((E,), proposals=((C, D),))
    open_up(session)
    draft(session)
    session.reopen()
    assert session.write_locally() == [told(0, C, D, text="cd"), Draft()]
    assert draft(session) == [told(2, E, text="e"), Draft()]
    session.on_opened(OPENED, 9)
    [send] = session.on_draft(Proposal(), 0)
    assert send.message == DraftBlock(round=1, base_position=0, tokens=(C, D, E))


def test_a_second_outage_goes_on_behind_what_is_not_verified_yet() -> None:
    session = local((C, D), (E,))
    open_up(session)
    alone(session, 1)
    session.on_opened(OPENED, 9)
    session.on_draft(Proposal(), 0)
    assert alone(session, 1) == [told(2, E, text="e"), Draft()]
    session.on_opened(OPENED, 9)
    [send] = session.on_draft(Proposal(), 0)
    assert send.message.tokens == (C, D, E)


class TestTheEnd:
    def test_a_complete_text_is_verified_before_the_summary(self) -> None:
        session = local((C, D, E), sampling=SamplingParams(max_tokens=2))
        open_up(session)
        assert alone(session, 1) == [told(0, C, D, text="cd")]
        [send] = session.on_opened(OPENED, 9)
        # The last place is the target's own, as in every block.
        assert send.message.tokens == (C,)
        confirmed, summary, cancel = session.on_verdict(Verdict(round=1, accepted=1, token=D), 9)
        assert confirmed.event.position == 2
        assert summary.event.finish_reason is FinishReason.LENGTH
        assert summary.event.accepted_tokens == 2
        assert summary.event.tiers[1].proposed_tokens == 2
        assert cancel == Send(CancelSession())

    def test_without_a_verifier_it_ends_unverified(self) -> None:
        session = local((C, D, EOS))
        open_up(session)
        alone(session, 1)
        summary, cancel = session.out_of_patience(GONE)
        assert summary.event.exactness is Exactness.UNVERIFIED
        assert summary.event.finish_reason is FinishReason.STOP_TOKEN
        assert (summary.event.completion_tokens, summary.event.unverified_tokens) == (3, 3)
        assert summary.event.tiers[1] == TierCounts(
            tier="tiny", proposed_tokens=3, accepted_tokens=3
        )
        assert cancel == Send(CancelSession())
        assert session.out_of_patience(GONE) == []

    def test_an_incomplete_text_is_a_failure(self) -> None:
        session = local((C, D), EngineFailure("broken"))
        open_up(session)
        alone(session, 1)
        assert session.on_draft_failed() == []
        assert isinstance(session.out_of_patience(GONE)[0].event, Failure)

    def test_what_was_verified_before_it_ends_is_said(self) -> None:
        session = local(*([(A,) * 8] * 8), (A, EOS))
        open_up(session)
        alone(session, 9)
        session.on_opened(OPENED, 9)
        session.on_verdict(Verdict(round=1, accepted=64, token=A), 9)
        session.reopen()
        assert session.write_locally() == []
        correction, rest, summary, _ = session.out_of_patience(GONE)
        assert correction.event.position == rest.event.position == 65
        assert [t.token for t in rest.event.tokens] == [EOS]
        assert (summary.event.accepted_tokens, summary.event.unverified_tokens) == (65, 1)
        assert summary.event.corrections == 1
        assert summary.event.exactness is Exactness.UNVERIFIED

    def test_cancelled_alone(self) -> None:
        session = local((C, D))
        open_up(session)
        alone(session, 1)
        summary = session.cancel()[0].event
        assert (summary.finish_reason, summary.unverified_tokens) == (FinishReason.CANCELLED, 2)
        assert summary.exactness is Exactness.UNVERIFIED

    def test_what_stands_behind_the_target_s_end_is_void(self) -> None:
        """The target ends with a token that means nothing to the draft tier."""
        session = local((C, E, D))
        session.start()
        alone(session, 1)
        session.on_opened(replace(OPENED, eos_token_ids=(E,)), 9)
        session.on_draft(Proposal(), 0)
        correction, token, summary, _ = session.on_verdict(
            Verdict(round=1, accepted=2, token=None, finished=True), 9
        )
        # Its text was told as "e", and an end token has none.
        assert correction.event.position == 1
        assert [(t.token, t.text) for t in token.event.tokens] == [(E, "")]
        assert summary.event.completion_tokens == 2

    def test_a_stop_string_that_was_held_back_comes_back(self) -> None:
        """The text state behind a correction is the target's, not that of the void tokens."""
        session = local((C, D), sampling=SamplingParams(stop=("ce",)))
        open_up(session)
        assert alone(session, 1)[0] == Emit(
            Tokens(
                position=0,
                tokens=(
                    TokenEvent(token=C, text="", tier=1, outcome=Outcome.UNVERIFIED),
                    TokenEvent(token=D, text="cd", tier=1, outcome=Outcome.UNVERIFIED),
                ),
            )
        )
        session.on_opened(OPENED, 9)
        session.on_draft(Proposal(), 0)
        correction, token, summary, _ = session.on_verdict(Verdict(round=1, accepted=1, token=E), 9)
        assert correction.event.position == 1
        assert [(t.token, t.text) for t in token.event.tokens] == [(E, "")]
        assert summary.event.finish_reason is FinishReason.STOP_STRING

    def test_a_prompt_the_target_has_no_room_for(self) -> None:
        session = local((C,), prompt=(A,) * 99)
        session.start()
        alone(session, 1)
        with pytest.raises(PromptTooLong):
            session.on_opened(replace(OPENED, context_length=99), 9)


class TestTakeover:
    STARTED = Started(
        request_id="r1",
        model="demo",
        tiers=("lookup", "tiny", "target"),
        fingerprint="",
        exactness=Exactness.UNVERIFIED,
        prompt_tokens=2,
    )
    TOLD = told(1, D, E, text="de").event.tokens
    COMMITTED = (TokenEvent(token=C, text="c", tier=1, outcome=Outcome.ACCEPTED),)

    def taken_over(self, *pieces, **changes) -> DrafterSession:
        return local(
            *pieces,
            started=self.STARTED,
            committed=self.COMMITTED,
            unverified=self.TOLD,
            fingerprint="f1",
            corrections=1,
            **changes,
        )

    def test_verifies_what_the_first_drafter_wrote(self) -> None:
        session = self.taken_over()
        [send] = session.start()
        assert send.message.committed == (C,)
        assert send.message.required_fingerprint == "f1"
        [send] = session.on_opened(OPENED, 9)
        assert send.message == DraftBlock(round=1, base_position=1, tokens=(D, E))
        confirmed, _, _ = session.on_verdict(Verdict(round=1, accepted=2, token=A), 9)
        assert confirmed.event.position == 3
        summary = session.cancel()[0].event
        assert summary.completion_tokens == 4
        assert summary.corrections == 2
        assert summary.exactness is Exactness.EXACT

    def test_a_text_that_is_complete_without_it_takes_it_back(self) -> None:
        """The next verifier has room for one token only."""
        session = self.taken_over()
        session.start()
        correction, summary, cancel = session.on_opened(replace(OPENED, context_length=3), 9)
        assert correction == Emit(Correction(position=1, fingerprint="f1"))
        assert summary.event.finish_reason is FinishReason.LENGTH
        assert (summary.event.completion_tokens, summary.event.corrections) == (1, 2)
        assert summary.event.exactness is Exactness.EXACT
        assert cancel == Send(CancelSession())

    def test_goes_on_writing_behind_it(self) -> None:
        session = self.taken_over((A,))
        session.start()
        assert alone(session, 1) == [told(3, A, text="a"), Draft()]

    def test_one_that_must_not_write_verifies_it_all_the_same(self) -> None:
        session = self.taken_over(writer=None)
        session.start()
        session.reopen()
        assert session.write_locally() == []
        [send] = session.on_opened(OPENED, 9)
        assert send.message.tokens == (D, E)


class TestWhoCannot:
    @pytest.mark.parametrize(
        "changes",
        [
            {"writer": None},
            {"speculation": SpeculationParams(outage=Outage.LOCAL, mode=Mode.GATED)},
            {"context_length_of_drafts": 2},
            {"speculation": SpeculationParams(outage=Outage.WAIT)},
        ],
        ids=str,
    )
    def test_waits(self, changes) -> None:
        session = local((C,), **changes)
        session.start()
        assert session.outage is Outage.WAIT
        assert session.write_locally() == []

    def test_fails_if_asked_to(self) -> None:
        session = local((C,), speculation=SpeculationParams(outage=Outage.FAIL))
        session.start()
        assert session.outage is Outage.FAIL
        assert session.write_locally() == []

    def test_nothing_is_written_while_a_verifier_is_there(self) -> None:
        session = local((C,))
        open_up(session)
        assert session.write_locally() == []

    def test_no_text_and_no_verifier_is_a_failure(self) -> None:
        session = local((C,))
        session.start()
        [emit, _] = session.out_of_patience(GONE)
        assert emit.event.reason == "VERIFIER_UNAVAILABLE"

    def test_a_tier_without_ideas_does_not_spin(self) -> None:
        session = local(())
        open_up(session)
        assert alone(session, 1) == []

    def test_the_draft_s_own_context_ends_its_text(self) -> None:
        session = local((C, D, E), context_length_of_drafts=4)
        open_up(session)
        assert alone(session, 1) == [told(0, C, D, text="cd")]


def test_a_ladder_s_draft_under_way_counts_as_written() -> None:
    session = local((E,), ladder=Script((C, D)))
    open_up(session)
    proposal = session.draft()
    session.reopen()
    assert session.write_locally() == []
    assert session.on_draft(proposal, 5) == [told(0, C, D, text="cd"), Draft()]


def test_logprobs_of_the_target_replace_what_was_told_without() -> None:
    session = local((C, D), sampling=SamplingParams(logprobs=True))
    open_up(session)
    alone(session, 1)
    session.on_opened(OPENED, 9)
    session.on_draft(Proposal(), 0)
    verdict = Verdict(round=1, accepted=2, token=A, logprobs=(-1.0, -2.0, -3.0))
    correction, tokens, _ = session.on_verdict(verdict, 9)
    assert correction.event.position == 0
    assert [t.logprob for t in tokens.event.tokens] == [-1.0, -2.0, -3.0]
    assert [t.outcome for t in tokens.event.tokens[:2]] == [Outcome.ACCEPTED] * 2
