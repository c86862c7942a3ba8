"""The drafter's side, event by event: what it sends, emits, refuses and counts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from hola.errors import EngineFailure, Overloaded, PromptTooLong, ProtocolViolation
from hola.ports import Proposal
from hola.speculation.actions import Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import FixedPacing, RoundReport
from hola.types import (
    CancelSession,
    DraftBlock,
    Exactness,
    Failure,
    FinishReason,
    GenerateJob,
    Mode,
    Open,
    Opened,
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

A, B, C, D, E = range(5)
PROMPT = (A, B)
OPENED = Opened(
    fingerprint="f1",
    exactness=Exactness.EXACT,
    context_length=100,
    eos_token_ids=(EOS,),
    prefill_ns=700,
    queue_ns=200,
)


class Script:
    """A ladder that proposes what it is told; remembers what it was asked."""

    tiers = ("lookup", "tiny")

    def __init__(self, *proposals: tuple[int, ...], entropy: float = 0.1) -> None:
        self.proposals = list(proposals)
        self.entropy = entropy
        self.asked: list[tuple[list[int], int]] = []

    def propose(self, prefix, k):
        self.asked.append((list(prefix), k))
        if k == 0:
            return Proposal()
        tokens = self.proposals.pop(0)
        return Proposal(
            tokens=tokens,
            tiers=("tiny",) * len(tokens),
            entropies=(self.entropy,) * len(tokens),
        )

    def close(self) -> None:
        raise AssertionError("the session does not own its ladder")


class Pacing:
    """Three tokens always; remembers the reports."""

    def __init__(self) -> None:
        self.reports: list[RoundReport] = []

    def next_draft_tokens(self) -> int:
        return 3

    def observe(self, report: RoundReport) -> None:
        self.reports.append(report)


def make(
    *proposals: tuple[int, ...],
    k: int = 3,
    sampling: SamplingParams | None = None,
    speculation: SpeculationParams | None = None,
    entropy: float = 0.1,
    **changes,
) -> DrafterSession:
    ticks = itertools.count(step=10_000)
    fields = {
        "prompt": PROMPT,
        "model": "demo",
        "ladder": Script(*proposals, entropy=entropy),
        "pacing": FixedPacing(k),
        "tokenizer": TOKENIZER,
        "target_name": "target",
        "context_length_of_drafts": 100,
        "clock": lambda: next(ticks),
        **changes,
    }
    job = GenerateJob(
        request_id="r1",
        model="demo",
        sampling=sampling or SamplingParams(),
        speculation=speculation or SpeculationParams(),
    )
    return DrafterSession(job, **fields)


def open_up(session: DrafterSession) -> list:
    session.start()
    return session.on_opened(OPENED, 1000)


def draft(session: DrafterSession, draft_ns: int = 50) -> list:
    return session.on_draft(session.draft(), draft_ns)


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
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_refuses_a_verdict_that_breaks_it(self, verdict: Verdict, message: str) -> None:
        session = make((C, D))
        open_up(session)
        draft(session)
        with pytest.raises(ProtocolViolation, match=message):
            session.on_verdict(verdict, 1)

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
