"""The drafter's side when something is lost: verifiers, drafters, and what others broke."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.errors import EngineFailure, PromptTooLong, ProtocolViolation
from hola.ports import Proposal
from hola.speculation.actions import Draft, Send
from hola.types import (
    CancelSession,
    DraftBlock,
    Exactness,
    Failure,
    FinishReason,
    Opened,
    Outcome,
    SamplingParams,
    Started,
    TierCounts,
    TokenEvent,
    Verdict,
)
from tests.unit.speculation.drive import EOS
from tests.unit.speculation.steps import (
    OPENED,
    A,
    B,
    C,
    D,
    E,
    Script,
    draft,
    make,
    open_up,
)


class TestLoss:
    def test_a_block_in_flight_is_sent_again(self) -> None:
        session = make((C, D), (E,))
        open_up(session)
        draft(session)
        session.on_verdict(Verdict(round=1, accepted=2, token=A), 9)
        draft(session)
        [send] = session.reopen()
        assert send.message.committed == (C, D, A)
        assert send.message.required_fingerprint == "f1"
        # A verdict of the lost stream that still turns up says nothing any more.
        assert session.on_verdict(Verdict(round=2, accepted=1, token=B), 9) == []
        assert session.on_opened(OPENED, 1) == [
            Send(DraftBlock(round=1, base_position=3, tokens=(E,)))
        ]
        session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
        assert session.output == (C, D, A, E, B)
        summary = session.cancel()[0].event
        assert summary.reconnects == 1
        assert summary.rounds == 2

    def test_lost_while_drafting(self) -> None:
        session = make((C, D))
        open_up(session)
        proposal = session.draft()
        session.reopen()
        assert session.on_draft(proposal, 5) == []
        assert session.on_opened(OPENED, 1) == [
            Send(DraftBlock(round=1, base_position=0, tokens=(C, D)))
        ]

    def test_opened_again_before_the_draft_is_done(self) -> None:
        session = make((C, D))
        open_up(session)
        session.reopen()
        assert session.on_opened(OPENED, 1) == []
        assert draft(session) == [Send(DraftBlock(round=1, base_position=0, tokens=(C, D)))]

    def test_lost_before_the_first_answer(self) -> None:
        session = make((C,))
        session.start()
        session.reopen()
        actions = session.on_opened(OPENED, 1)
        assert isinstance(actions[0].event, Started)
        assert actions[1:] == [Draft()]

    @pytest.mark.parametrize(
        "opened",
        [
            replace(OPENED, fingerprint="f2"),
            replace(OPENED, exactness=Exactness.DEGRADED),
        ],
    )
    def test_other_numerics_degrade_the_stream(self, opened: Opened) -> None:
        session = make((C, D))
        open_up(session)
        draft(session)
        session.reopen()
        assert [type(action) for action in session.on_opened(opened, 1)] == [Send]
        # Once degraded, always degraded: coming back does not repair the middle.
        session.reopen()
        session.on_opened(OPENED, 1)
        assert session.cancel()[0].event.exactness is Exactness.DEGRADED

    def test_a_target_without_fingerprint_is_degraded_from_the_start(self) -> None:
        session = make((C, D))
        session.start()
        opened = replace(OPENED, fingerprint="", exactness=Exactness.DEGRADED)
        assert session.on_opened(opened, 1)[0].event.exactness is Exactness.DEGRADED


class TestTakeover:
    STARTED = Started(
        request_id="r1",
        model="demo",
        tiers=("tiny", "target"),
        fingerprint="f1",
        exactness=Exactness.EXACT,
        prompt_tokens=2,
    )
    COMMITTED = (
        TokenEvent(token=C, text="c", tier=0, outcome=Outcome.ACCEPTED),
        TokenEvent(token=A, text="", tier=0, outcome=Outcome.CORRECTED),
        TokenEvent(token=C, text="ac", tier=1, outcome=Outcome.BONUS),
    )

    def test_goes_on_where_the_journal_ends(self) -> None:
        session = make((D,), committed=self.COMMITTED, started=self.STARTED)
        [send] = session.start()
        assert send.message.committed == (C, A, C)
        assert send.message.required_fingerprint == "f1"
        assert session.on_opened(OPENED, 1) == [Draft()]
        assert draft(session) == [Send(DraftBlock(round=1, base_position=3, tokens=(D,)))]
        [emit, _] = session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
        assert emit.event.position == 3
        assert [t.tier for t in emit.event.tokens] == [0, 1]
        summary = session.cancel()[0].event
        assert summary.completion_tokens == 5
        assert summary.tiers == (
            TierCounts(tier="tiny", proposed_tokens=3, accepted_tokens=2),
            TierCounts(tier="target", proposed_tokens=3, accepted_tokens=3),
        )

    def test_a_tier_the_stream_never_announced_counts_for_the_target(self) -> None:
        session = make((D,), started=replace(self.STARTED, tiers=("other", "target")))
        open_up(session)
        draft(session)
        [emit, _] = session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
        assert [t.tier for t in emit.event.tokens] == [1, 1]

    def test_text_held_back_by_the_first_drafter_is_not_lost(self) -> None:
        committed = (TokenEvent(token=C, text="", tier=0, outcome=Outcome.PLAIN),)
        session = make(
            (),
            committed=committed,
            started=self.STARTED,
            sampling=SamplingParams(stop=("cd",)),
        )
        open_up(session)
        draft(session)
        [emit, _] = session.on_verdict(Verdict(round=1, accepted=0, token=E), 9)
        assert emit.event.tokens[0].text == "ce"

    @pytest.mark.parametrize(
        ("sampling", "reason"),
        [
            (SamplingParams(max_tokens=3), FinishReason.LENGTH),
            (SamplingParams(stop=("ac",)), FinishReason.STOP_STRING),
            (SamplingParams(stop_token_ids=(C,)), FinishReason.STOP_TOKEN),
        ],
    )
    def test_only_the_summary_was_missing(self, sampling, reason) -> None:
        session = make(committed=self.COMMITTED, started=self.STARTED, sampling=sampling)
        emit, cancel = open_up(session)
        assert emit.event.finish_reason is reason
        assert emit.event.completion_tokens == 3
        assert cancel == Send(CancelSession())

    def test_started_alone_is_not_repeated(self) -> None:
        session = make((C,), started=self.STARTED)
        assert open_up(session) == [Draft()]

    def test_other_numerics_than_the_journal_s(self) -> None:
        session = make(committed=self.COMMITTED, fingerprint="f0")
        open_up(session)
        assert session.cancel()[0].event.exactness is Exactness.DEGRADED

    @pytest.mark.parametrize(
        "changes",
        [
            {"started": replace(STARTED, exactness=Exactness.DEGRADED)},
            {"started": replace(STARTED, fingerprint="")},
            {},
        ],
        ids=["degraded", "no fingerprint", "no Started"],
    )
    def test_what_was_not_exact_stays_so(self, changes) -> None:
        session = make(committed=self.COMMITTED, **changes)
        open_up(session)
        assert session.cancel()[0].event.exactness is Exactness.DEGRADED


class TestContract:
    def test_refuses_a_prompt_without_room(self) -> None:
        session = make(prompt=(A,) * 100)
        session.start()
        with pytest.raises(PromptTooLong) as caught:
            session.on_opened(OPENED, 1)
        assert caught.value.details == {"prompt_tokens": "100", "context_length": "100"}
        assert isinstance(session.fail(caught.value)[0].event, Failure)

    def test_refuses_opened_out_of_turn(self) -> None:
        session = make()
        open_up(session)
        with pytest.raises(ProtocolViolation, match="nobody asked for"):
            session.on_opened(OPENED, 1)

    def test_refuses_a_draft_out_of_turn(self) -> None:
        session = make()
        session.start()
        with pytest.raises(ProtocolViolation, match="nobody asked for"):
            session.on_draft(Proposal(), 1)

    @pytest.mark.parametrize(
        ("verdict", "message"),
        [
            (Verdict(round=2, accepted=0, token=A), "verdict for round 2, now 1"),
            (Verdict(round=1, accepted=3, token=A), "3 accepted of 2"),
            (Verdict(round=1, accepted=-1, token=A), "-1 accepted of 2"),
            (Verdict(round=1, accepted=1, token=None), "though the text goes on"),
            (Verdict(round=1, accepted=1, token=A, logprobs=(-1.0,)), "1 log-prob"),
            (Verdict(round=1, accepted=1, token=A, agreed_tokens=1), "1 agreed of 0"),
            (Verdict(round=1, accepted=1, token=A, finished=True), "without an end token"),
            (Verdict(round=1, accepted=1, token=2**32 - 1), "outside the vocabulary"),
            (Verdict(round=1, accepted=1, token=-1), "outside the vocabulary"),
            (Verdict(round=1, accepted=1, token=D), "was rejected and is the target's own"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_refuses_a_verdict_that_breaks_it(self, verdict: Verdict, message: str) -> None:
        session = make((C, D))
        open_up(session)
        draft(session)
        with pytest.raises(ProtocolViolation, match=message):
            session.on_verdict(verdict, 1)

    def test_a_token_of_the_padding_has_no_text(self) -> None:
        session = make((C, D), ())
        open_up(session)
        draft(session)
        [emit, _] = session.on_verdict(Verdict(round=1, accepted=1, token=EOS + 1), 1)
        assert [(t.token, t.text) for t in emit.event.tokens] == [(C, "c"), (EOS + 1, "")]
        heir = make((D,), committed=emit.event.tokens, fingerprint="f1")
        open_up(heir)
        draft(heir)
        [emit, _] = heir.on_verdict(Verdict(round=1, accepted=1, token=A), 1)
        assert [t.text for t in emit.event.tokens] == ["d", "a"]

    def test_ignores_a_repeated_verdict(self) -> None:
        session = make((C, D), (E,))
        open_up(session)
        draft(session)
        verdict = Verdict(round=1, accepted=2, token=A)
        session.on_verdict(verdict, 1)
        assert session.on_verdict(verdict, 1) == []
        draft(session)
        assert session.on_verdict(verdict, 1) == []
        assert session.output == (C, D, A)

    def test_goes_on_without_drafts_after_an_engine_failure(self) -> None:
        class Broken(Script):
            def propose(self, prefix, k):
                raise EngineFailure("on purpose")

        session = make(ladder=Broken())
        assert open_up(session)[-1] == Draft()
        with pytest.raises(EngineFailure):
            session.draft()
        assert session.on_draft_failed() == [Send(DraftBlock(round=1, base_position=0))]
        actions = session.on_verdict(Verdict(round=1, accepted=0, token=C), 9)
        assert actions[-1] == Send(DraftBlock(round=2, base_position=1))
