"""The drafter's side, event by event: what it sends, emits, refuses and counts."""

from __future__ import annotations

import math

import pytest

from hola.errors import Overloaded
from hola.ports import Proposal
from hola.speculation.actions import Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import RoundReport
from hola.types import (
    CancelSession,
    DraftBlock,
    Exactness,
    Failure,
    FinishReason,
    Mode,
    Open,
    Outcome,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    TierCounts,
    Timings,
    TokenEvent,
    Tokens,
    Verdict,
)
from tests.unit.speculation.drive import EOS, TOKENIZER
from tests.unit.speculation.steps import (
    OPENED,
    PROMPT,
    A,
    B,
    C,
    D,
    E,
    Pacing,
    draft,
    make,
    open_up,
)


def test_the_first_round() -> None:
    session = make((C, D, E))
    assert session.start() == [
        Send(
            Open(
                session_id="r1",
                model="demo",
                tokenizer_fingerprint=TOKENIZER.fingerprint,
                prompt=PROMPT,
                sampling=SamplingParams(),
            )
        )
    ]
    started = Started(
        request_id="r1",
        model="demo",
        tiers=("lookup", "tiny", "target"),
        fingerprint="f1",
        exactness=Exactness.EXACT,
        prompt_tokens=2,
    )
    assert session.on_opened(OPENED, 1000) == [Emit(started), Draft()]
    assert draft(session) == [Send(DraftBlock(round=1, base_position=0, tokens=(C, D, E)))]
    actions = session.on_verdict(Verdict(round=1, accepted=1, token=A), 100)
    assert actions == [
        Emit(
            Tokens(
                position=0,
                tokens=(
                    TokenEvent(token=C, text="c", tier=1, outcome=Outcome.ACCEPTED),
                    TokenEvent(token=A, text="a", tier=1, outcome=Outcome.CORRECTED),
                ),
            )
        ),
        Draft(),
    ]
    assert session.output == (C, A)
    assert not session.finished


def test_ladder_sees_prompt_and_output_and_is_warmed_up_once() -> None:
    session = make((C,), (D,))
    open_up(session)
    draft(session)
    session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
    draft(session)
    assert session.ladder.asked == [
        ([A, B], 0),
        ([A, B], 3),
        ([A, B, C, B], 3),
    ]


def test_bonus_and_plain_tokens_are_the_target_s() -> None:
    session = make((C,), ())
    open_up(session)
    draft(session)
    [emit, _] = session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
    assert [(t.outcome, t.tier) for t in emit.event.tokens] == [
        (Outcome.ACCEPTED, 1),
        (Outcome.BONUS, 2),
    ]
    assert draft(session) == [Send(DraftBlock(round=2, base_position=2))]
    [emit, _] = session.on_verdict(Verdict(round=2, accepted=0, token=B), 9)
    assert [(t.outcome, t.tier) for t in emit.event.tokens] == [(Outcome.PLAIN, 2)]
    assert emit.event.position == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"ladder": None},
        {"k": 0},
        {"speculation": SpeculationParams(max_draft_tokens=0)},
        {"sampling": SamplingParams(max_tokens=1)},
        {"context_length_of_drafts": 2},
    ],
    ids=str,
)
def test_plain_decoding_needs_no_draft(changes) -> None:
    session = make(**changes)
    assert open_up(session)[-1] == Send(DraftBlock(round=1, base_position=0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"k": 99}, 64),
        ({"k": 99, "speculation": SpeculationParams(max_draft_tokens=7)}, 7),
        ({"k": 2, "speculation": SpeculationParams(max_draft_tokens=7)}, 2),
        ({"k": 9, "sampling": SamplingParams(max_tokens=4)}, 3),
        ({"k": 9, "prompt": (A,) * 97}, 2),
    ],
    ids=str,
)
def test_nothing_is_drafted_that_could_not_be_output(changes, expected: int) -> None:
    session = make((), **changes)
    open_up(session)
    session.draft()
    assert session.ladder.asked[-1][1] == expected


def test_a_proposal_longer_than_asked_is_cut() -> None:
    session = make((C, D, E, A, B))
    open_up(session)
    [send] = draft(session)
    assert send.message.tokens == (C, D, E)


class TestTheEnd:
    def finish(self, session: DrafterSession, verdict: Verdict) -> tuple[Tokens, Summary]:
        open_up(session)
        draft(session)
        tokens, summary, cancel = session.on_verdict(verdict, 100)
        assert cancel == Send(CancelSession())
        assert session.finished
        assert session.cancel() == session.reopen() == session.fail(Overloaded("x")) == []
        assert session.on_verdict(verdict, 100) == session.on_draft(Proposal(), 1) == []
        assert session.on_opened(OPENED, 1) == []
        return tokens.event, summary.event

    @pytest.mark.parametrize("stop_token_ids", [(), (D,)])
    def test_an_end_token_is_output_without_text(self, stop_token_ids) -> None:
        end = stop_token_ids[0] if stop_token_ids else EOS
        sampling = SamplingParams(stop_token_ids=stop_token_ids)
        tokens, summary = self.finish(
            make((C, end), sampling=sampling),
            Verdict(round=1, accepted=2, token=None, finished=True),
        )
        assert [(t.token, t.text) for t in tokens.tokens] == [(C, "c"), (end, "")]
        assert summary.finish_reason is FinishReason.STOP_TOKEN

    def test_text_held_back_comes_with_the_end_token(self) -> None:
        tokens, summary = self.finish(
            make((C,), sampling=SamplingParams(stop=("cd",))),
            Verdict(round=1, accepted=1, token=EOS, finished=True),
        )
        assert [t.text for t in tokens.tokens] == ["", "c"]
        assert summary.finish_reason is FinishReason.STOP_TOKEN

    def test_a_stop_string_cuts_text_and_tokens(self) -> None:
        tokens, summary = self.finish(
            make((C, D, E), sampling=SamplingParams(stop=("cd",))),
            Verdict(round=1, accepted=3, token=A),
        )
        assert [(t.token, t.text) for t in tokens.tokens] == [(C, ""), (D, "")]
        assert summary.finish_reason is FinishReason.STOP_STRING
        assert summary.completion_tokens == summary.accepted_tokens == 2
        assert summary.tiers[1] == TierCounts(tier="tiny", proposed_tokens=3, accepted_tokens=2)

    def test_max_tokens(self) -> None:
        tokens, summary = self.finish(
            make((C, D), sampling=SamplingParams(max_tokens=3, stop=("ax",))),
            Verdict(round=1, accepted=2, token=A),
        )
        assert [t.text for t in tokens.tokens] == ["c", "d", "a"]
        assert summary.finish_reason is FinishReason.LENGTH

    def test_context_length(self) -> None:
        _, summary = self.finish(
            make((C, D), prompt=(A,) * 97), Verdict(round=1, accepted=2, token=A)
        )
        assert summary.finish_reason is FinishReason.LENGTH
        assert summary.completion_tokens == 3

    def test_cancel_keeps_what_is_committed(self) -> None:
        session = make((C,))
        open_up(session)
        draft(session)
        session.on_verdict(Verdict(round=1, accepted=1, token=B), 9)
        emit, cancel = session.cancel()
        assert cancel == Send(CancelSession())
        assert emit.event.finish_reason is FinishReason.CANCELLED
        assert emit.event.completion_tokens == 2

    def test_cancel_before_anything(self) -> None:
        session = make()
        session.start()
        emit, _ = session.cancel()
        assert emit.event.completion_tokens == 0

    def test_failure_carries_the_error(self) -> None:
        session = make()
        session.start()
        error = Overloaded("full", retry_after_ms=50)
        assert session.fail(error) == [
            Emit(
                Failure(
                    reason="OVERLOADED",
                    message="full",
                    grpc_code=8,
                    details={"retry_after_ms": "50"},
                )
            ),
            Send(CancelSession()),
        ]
        assert session.finished


class TestGated:
    SPECULATION = SpeculationParams(mode=Mode.GATED, entropy_threshold=1.0)

    def test_confident_tokens_are_output_at_once(self) -> None:
        session = make((C, D), speculation=self.SPECULATION)
        assert open_up(session)[0].event.exactness is Exactness.GATED
        emit, send = draft(session)
        assert [(t.token, t.outcome, t.tier) for t in emit.event.tokens] == [
            (C, Outcome.UNVERIFIED, 1),
            (D, Outcome.UNVERIFIED, 1),
        ]
        assert send.message == DraftBlock(
            round=1, base_position=0, tokens=(C, D), committed_tokens=2
        )
        [emit, _] = session.on_verdict(Verdict(round=1, accepted=2, token=A, agreed_tokens=1), 100)
        assert emit.event.position == 2
        assert [t.outcome for t in emit.event.tokens] == [Outcome.BONUS]
        summary = session.cancel()[0].event
        assert (summary.unverified_tokens, summary.agreed_tokens) == (2, 1)
        assert summary.exactness is Exactness.GATED

    def test_uncertain_tokens_are_verified(self) -> None:
        session = make((C, D), speculation=self.SPECULATION, entropy=math.inf)
        open_up(session)
        [send] = draft(session)
        assert send.message.committed_tokens == 0

    def test_the_last_unverified_tokens_are_still_scored(self) -> None:
        session = make(
            (C, D, E), speculation=self.SPECULATION, sampling=SamplingParams(stop=("cd",))
        )
        open_up(session)
        emit, send = draft(session)
        assert [t.token for t in emit.event.tokens] == [C, D]
        assert send.message.tokens == (C, D)
        assert send.message.committed_tokens == 2
        assert not session.finished
        summary, _ = session.on_verdict(Verdict(round=1, accepted=2, token=A, agreed_tokens=2), 100)
        assert summary.event.finish_reason is FinishReason.STOP_STRING
        assert summary.event.agreed_tokens == 2
        assert summary.event.completion_tokens == 2

    def test_after_a_loss_unverified_tokens_are_sent_to_be_scored(self) -> None:
        session = make((C, D), speculation=self.SPECULATION)
        open_up(session)
        draft(session)
        [send] = session.reopen()
        assert send.message.committed == ()
        assert session.on_opened(OPENED, 1) == [
            Send(DraftBlock(round=1, base_position=0, tokens=(C, D), committed_tokens=2))
        ]


def test_logprobs_travel_with_their_tokens() -> None:
    session = make((C, D), sampling=SamplingParams(logprobs=True))
    open_up(session)
    draft(session)
    [emit, _] = session.on_verdict(Verdict(round=1, accepted=1, token=A, logprobs=(-0.5, -1.5)), 9)
    assert [t.logprob for t in emit.event.tokens] == [-0.5, -1.5]


def test_times_are_booked_where_they_belong() -> None:
    """The clock ticks 10 µs per reading: at birth, twice around the warm-up, and at the end."""
    session = make((C, D), queue_ns=5, tokenize_ns=7)
    open_up(session)
    draft(session, draft_ns=15_000)
    session.on_verdict(Verdict(round=1, accepted=2, token=A, compute_ns=60, queue_ns=30), 100)
    times = session.cancel()[0].event.timings
    assert times == Timings(
        queue_ns=5,
        prefill_ns=7 + 700 + 10_000,
        draft_ns=5_000,
        verify_ns=60,
        verify_queue_ns=200 + 30,
        network_ns=100 + 10,
        other_ns=30_012 - (5 + 10_707 + 5_000 + 60 + 230 + 110),
        total_ns=30_000 + 5 + 7,
    )


def test_times_of_other_clocks_are_cut_to_fit() -> None:
    session = make((C, D))
    open_up(session)
    draft(session, draft_ns=0)
    session.on_verdict(Verdict(round=1, accepted=2, token=A, compute_ns=900, queue_ns=30), 100)
    times = session.cancel()[0].event.timings
    assert (times.verify_ns, times.network_ns) == (100, 100)
    # Parts above the wall time stretch the total rather than going negative.
    session = make((C, D))
    open_up(session)
    draft(session, draft_ns=10**9)
    times = session.cancel()[0].event.timings
    assert times.other_ns == 0
    assert times.total_ns == 10**9 + 1000


def test_pacing_hears_of_every_round() -> None:
    pacing = Pacing()
    session = make((C, D), pacing=pacing)
    open_up(session)
    draft(session, draft_ns=15_000)
    session.on_verdict(Verdict(round=1, accepted=1, token=A, compute_ns=60, queue_ns=30), 100)
    assert pacing.reports == [
        RoundReport(asked=3, drafted=2, accepted=1, draft_ns=5_000, verify_ns=60, overhead_ns=40)
    ]
