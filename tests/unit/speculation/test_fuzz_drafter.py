"""Arbitrary messages at the drafter's side: typed errors only, one end, and never a wrong token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, note, strategies as st

from hola.engines.scripted import ScriptedEngine
from hola.errors import EngineFailure, HolaError, VerifierUnavailable
from hola.ports import Proposal
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.local import answer_locally
from hola.speculation.proposers import Cascade, Tier, build_ladder
from hola.speculation.verifier_session import VerifierSession
from hola.transcript import Transcript
from hola.types import (
    CancelSession,
    DraftBlock,
    Exactness,
    Failure,
    GenerateEvent,
    GenerateJob,
    Mode,
    Open,
    Opened,
    Outage,
    SamplingParams,
    SpeculationParams,
    Summary,
    Verdict,
)
from tests.unit.speculation.drive import (
    EOS,
    TARGET,
    TOKENIZER,
    RandomPacing,
    Result,
    plain_decoding,
)
from tests.unit.speculation.fuzz import FUZZ, FUZZ_LONG

SMALL = replace(TARGET, context_length=48, eos_bias=-2.0)
PROMPT = (1, 2, 3)

uint32 = st.integers(0, 2**32 - 1)
token_ids = st.integers(0, EOS) | st.sampled_from([-1, EOS + 1, 2**32 - 1])
some_ids = st.lists(token_ids, max_size=2).map(tuple)
# One wrong field at a time gets furthest; a number is added to what would be right.
LIES = st.one_of(
    st.tuples(st.just("round"), st.sampled_from([-2, -1, 1, 2**32])),
    st.tuples(st.just("accepted"), st.sampled_from([-100, -1, 1, 2])),
    st.tuples(st.just("accepted"), st.sampled_from([64, 10_000])),
    st.tuples(st.just("agreed_tokens"), st.sampled_from([-1, 1, 2**32])),
    st.tuples(st.just("token"), st.none() | token_ids),
    st.tuples(st.just("finished"), st.booleans()),
    st.tuples(st.just("logprobs"), st.lists(st.floats(width=32), max_size=3).map(tuple)),
    st.tuples(st.just("compute_ns"), st.sampled_from([0, 2**63])),
    st.tuples(st.just("fingerprint"), st.sampled_from(["g", ""])),
    st.tuples(st.just("exactness"), st.sampled_from(Exactness)),
    st.tuples(st.just("context_length"), st.sampled_from([-48, -45, -44, -20, 2**31])),
    st.tuples(st.just("eos_token_ids"), some_ids),
)
ADDED = ("round", "accepted", "agreed_tokens", "context_length", "compute_ns")
stray_opened = st.builds(
    Opened,
    fingerprint=st.sampled_from(["f", "g", ""]),
    exactness=st.sampled_from(Exactness),
    context_length=st.sampled_from([0, 4, 20, 48]) | uint32,
    eos_token_ids=some_ids,
)
stray_verdicts = st.builds(
    Verdict,
    round=st.integers(0, 9) | uint32,
    accepted=st.integers(-1, 5) | uint32,
    token=st.none() | token_ids,
    finished=st.booleans(),
)
sampling = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0, 0.7, 1.5]),
    seed=st.integers(0, 99),
    max_tokens=st.sampled_from([1, 5, 20, 500, 500, 500]),
    stop=st.sampled_from([(), (), (), ("ab",), ("ing", "€")]),
    stop_token_ids=st.sampled_from([(), (), (), (3,)]),
    logprobs=st.sampled_from([False, False, True]),
)
speculation = st.builds(
    SpeculationParams,
    mode=st.sampled_from([Mode.EXACT, Mode.EXACT, Mode.EXACT, Mode.EXACT, Mode.GATED]),
    max_draft_tokens=st.sampled_from([None, None, None, 1, 64]),
    entropy_threshold=st.sampled_from([1.5, 100.0, 100.0]),
    outage=st.sampled_from([Outage.LOCAL, Outage.LOCAL, Outage.LOCAL, *Outage]),
)


def new_session(
    params: SamplingParams, how: SpeculationParams, seed: int, known: Transcript | None = None
) -> DrafterSession:
    """A session with a noisy copy of the target for a ladder."""
    script = replace(SMALL, name="tiny", noise=0.4)
    tier = Tier(
        name="tiny",
        session=ScriptedEngine(script).open(script.context_length),
        eos_token_ids=(EOS,),
    )
    ladder = build_ladder([tier], params, entropy_threshold=how.entropy_threshold)
    known = known or Transcript()
    ticks = iter(range(10**9))
    return DrafterSession(
        GenerateJob(request_id="r", model="m", sampling=params, speculation=how),
        prompt=PROMPT,
        model="m",
        ladder=ladder,
        pacing=RandomPacing(Random(seed), 9),
        tokenizer=TOKENIZER,
        target_name="target",
        context_length_of_drafts=40,
        clock=lambda: next(ticks),
        writer=ladder if isinstance(ladder, Cascade) else None,
        eos_of_drafts=(EOS,),
        committed=known.final,
        unverified=known.unverified,
        corrections=known.corrections,
        started=known.started,
        fingerprint=known.fingerprint,
    )


@dataclass
class Watched:
    """A session whose every answer is checked for form; `events` is what it has emitted."""

    session: DrafterSession
    events: list[GenerateEvent] = field(default_factory=list)
    transcript: Transcript = field(default_factory=Transcript)

    def ask(self, method: Callable[..., list[Action]], *arguments: Any) -> list[Action]:
        """Call a method; the actions but for its Emits. Raises only HolaError."""
        ended = self.session.finished
        actions = method(*arguments)
        assert not (ended and actions), "something after the end"
        emits = [action for action in actions if isinstance(action, Emit)]
        assert list(actions[: len(emits)]) == emits, "Emits come first"
        rest = actions[len(emits) :]
        assert len(rest) <= 1
        for emit in emits:
            self.events.append(emit.event)
            self.transcript.note(emit.event)
        if self.session.finished and not ended:
            assert rest == [Send(CancelSession())]
        self.check_ends()
        return rest

    def check_ends(self) -> None:
        """The terminal event is one and the last, and tells of the session's end."""
        ends = [event for event in self.events if isinstance(event, Summary | Failure)]
        assert len(ends) == self.session.finished
        assert ends == self.events[-1:] or not ends
        if ends and isinstance(ends[0], Summary):
            assert ends[0].completion_tokens == len(self.transcript.tokens)
            assert ends[0].corrections == self.transcript.corrections

    def end(self) -> None:
        """What its shell does at last."""
        self.ask(self.session.cancel)
        assert self.session.finished


@dataclass
class Case:
    """One request step by step: a verifier, and a network that loses and repeats what it likes.

    `lie` is the next thing wrong in an answer of the verifier: a field and its value.
    """

    params: SamplingParams
    how: SpeculationParams
    seed: int
    lie: tuple[str, Any] | None = None
    lied: bool = False
    todo: list[Action] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    draft_due: bool = False

    def __post_init__(self) -> None:
        self.expected = plain_decoding(SMALL, PROMPT, self.params)
        self.watched = Watched(new_session(self.params, self.how, self.seed))
        self.verifier = self.new_verifier()
        self.do(self.watched.session.start)

    @property
    def session(self) -> DrafterSession:
        return self.watched.session

    def new_verifier(self) -> VerifierSession:
        engine = ScriptedEngine(SMALL)
        cache = engine.open(SMALL.context_length)
        return VerifierSession(cache, self.params, (EOS,), vocab_size=SMALL.vocab_size)

    def do(self, method: Callable[..., list[Action]], *arguments: Any) -> None:
        for action in self.watched.ask(method, *arguments):
            if isinstance(action, Draft):
                self.draft_due = True
            elif not isinstance(action.message, CancelSession):
                self.todo = [action]
        self.check()

    def check(self) -> None:
        """What is final is a beginning of the target's own text, at every moment."""
        if self.how.mode is Mode.GATED or self.lied:
            return
        final = self.watched.transcript.final
        assert tuple(token.token for token in final) == self.expected.tokens[: len(final)]
        assert self.session.output == self.expected.tokens[: len(self.session.output)]

    def step(self, name: str) -> None:
        match name:
            case "deliver" if self.todo:
                self.deliver()
            case "draft" | "unwanted" | "broken" if self.draft_due:
                self.draft_due = False
                self.answer_draft(name)
            case "repeat" if self.verdicts:
                self.do(self.session.on_verdict, self.verdicts[-1], 1000)
            case "lose" | "lose for long":
                self.todo, self.verdicts = [], []
                if name == "lose for long":
                    self.verifier = self.new_verifier()
                self.do(self.session.reopen)
            case "outage":
                self.step("lose")
                self.step("draft")
                self.do(self.session.write_locally)
            case "take over":
                self.take_over()

    def answer_draft(self, name: str) -> None:
        if name == "broken":
            self.do(self.session.on_draft_failed)
            return
        try:
            proposal = self.session.draft() if name == "draft" else Proposal()
        except EngineFailure:
            # The draft tier cannot read a token that the verifier lied about.
            assert self.lied
            self.do(self.session.on_draft_failed)
        else:
            self.do(self.session.on_draft, proposal, 9)

    def deliver(self) -> None:
        (action,) = self.todo
        assert isinstance(action, Send)
        assert isinstance(action.message, Open | DraftBlock)
        self.todo = []
        answer = answer_locally(self.verifier, action.message, ScriptedEngine(SMALL).info, "f")
        answer = self.twisted(answer)
        if isinstance(answer, Opened):
            self.do(self.session.on_opened, answer, 1000)
        elif isinstance(answer, Verdict):
            self.verdicts.append(answer)
            self.do(self.session.on_verdict, answer, 1000)

    def twisted(self, answer: Opened | Verdict | None) -> Opened | Verdict | None:
        """The answer with the lie in it, if it has that field."""
        lie, self.lie = self.lie, None
        if answer is None or lie is None or not hasattr(answer, lie[0]):
            return answer
        self.lied = True
        name, value = lie
        changed = getattr(answer, name) + value if name in ADDED else value
        return replace(answer, **{name: changed})

    def take_over(self) -> None:
        """Another drafter goes on with what the journal has."""
        if self.session.finished:
            return
        self.todo, self.verdicts, self.draft_due = [], [], False
        known = self.watched.transcript
        events = self.watched.events
        session = new_session(self.params, self.how, self.seed, known)
        self.watched = Watched(session, events, known)
        self.do(self.session.start)

    def end(self, name: str) -> None:
        if name == "cancel":
            self.do(self.session.cancel)
        elif not self.todo:
            self.do(self.session.out_of_patience, VerifierUnavailable("x"))

    def finish(self) -> None:
        """From here on nothing goes wrong: the text has to be the target's own."""
        self.step("lose")
        for _ in range(300):
            self.step("draft")
            self.step("deliver")
        assert self.session.finished
        transcript = self.watched.transcript
        end = transcript.end
        assert isinstance(end, Summary)
        if self.how.mode is Mode.EXACT:
            tokens = tuple(token.token for token in transcript.tokens)
            text = "".join(token.text for token in transcript.tokens)
            assert Result(tokens, text, end.finish_reason) == self.expected
            assert end.exactness in (Exactness.EXACT, Exactness.DEGRADED)
            assert transcript.unverified == ()


NAMES = st.sampled_from([
    *("deliver",) * 12, *("draft",) * 12, "unwanted", "broken", "repeat", "lose",
    "lose for long", "outage", "outage", "take over",
])  # fmt: skip
REQUEST = {"params": sampling, "how": speculation, "seed": st.integers(0, 9)}
HONEST = {
    **REQUEST,
    "names": st.lists(NAMES, min_size=10, max_size=80),
    "last": st.sampled_from(["", "", "", "cancel", "out_of_patience"]),
}
LYING = {
    **REQUEST,
    "steps": st.lists(st.tuples(NAMES, st.none() | st.none() | LIES), min_size=10, max_size=60),
    "stray": st.lists(st.tuples(st.integers(0, 60), stray_opened | stray_verdicts), max_size=2),
}


# A wrong token that could be one of the padding is found out by the next verifier only.
REASONS = ("PROTOCOL_VIOLATION", "PROMPT_TOO_LONG", "INVALID_REQUEST")


def an_honest_verifier(params, how, seed, names, last) -> Case:
    case = Case(params, how, seed)
    note(f"expected {case.expected}")
    for name in names:
        case.step(name)
    if last:
        case.end(last)
    if not case.session.finished:
        case.finish()
    return case


def a_lying_verifier(params, how, seed, steps, stray) -> Case:
    """What a session raises ends the request, as the shell does; then there is a Failure."""
    case = Case(params, how, seed)
    strange = dict(stray)
    for at, (name, lie) in enumerate(steps):
        case.lie = lie
        try:
            case.step(name)
            if at in strange:
                case.lied = True
                answer = strange[at]
                is_opened = isinstance(answer, Opened)
                case.do(case.session.on_opened if is_opened else case.session.on_verdict, answer, 9)
        except HolaError as error:
            case.watched.ask(case.session.fail, error)
            failure = case.watched.events[-1]
            assert isinstance(failure, Failure)
            assert failure.reason in REASONS
    case.watched.ask(case.session.cancel)
    assert case.session.finished
    return case


@FUZZ
@given(**HONEST)
def test_an_honest_verifier_on_any_network(params, how, seed, names, last) -> None:
    an_honest_verifier(params, how, seed, names, last)


@pytest.mark.slow
@FUZZ_LONG
@given(**HONEST)
def test_an_honest_verifier_on_many_more_networks(params, how, seed, names, last) -> None:
    an_honest_verifier(params, how, seed, names, last)


@FUZZ
@given(**LYING)
def test_a_verifier_that_lies(params, how, seed, steps, stray) -> None:
    a_lying_verifier(params, how, seed, steps, stray)


@pytest.mark.slow
@FUZZ_LONG
@given(**LYING)
def test_a_verifier_with_many_more_lies(params, how, seed, steps, stray) -> None:
    a_lying_verifier(params, how, seed, steps, stray)
