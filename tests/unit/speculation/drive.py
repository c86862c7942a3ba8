"""Plain decoding as an independent reference, and a run of both sessions under random trouble."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from hola.engines.scripted import Script, ScriptedEngine
from hola.errors import SessionLost
from hola.ports import Proposal, Proposer
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.local import answer_locally
from hola.speculation.pacing import RoundReport
from hola.speculation.proposers import Cascade
from hola.speculation.sampling import choose
from hola.speculation.verifier_session import VerifierSession
from hola.transcript import Transcript
from hola.types import (
    CancelSession,
    Correction,
    DraftBlock,
    Failure,
    FinishReason,
    GenerateEvent,
    GenerateJob,
    Open,
    Opened,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    Tokens,
    Verdict,
)


class PieceTokenizer:
    """A small vocabulary of byte pieces, some of which end inside a UTF-8 character."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)

    @property
    def fingerprint(self) -> str:
        return f"pieces-{len(self._pieces)}"

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        return [self._pieces.index(char.encode()) for char in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self._pieces[token] for token in tokens).decode(errors="replace")


EURO = "€".encode()
GRIN = "😀".encode()
# The last id is the end of text; it has no text.
PIECES = (
    *(bytes([byte]) for byte in b"abcdefgh "),
    EURO[:1],
    EURO[1:2],
    EURO[2:],
    GRIN[:2],
    GRIN[2:],
    EURO,
    b"ab",
    b"c\n",
    b"ing",
    "ä".encode(),
    b"",
)
TOKENIZER = PieceTokenizer(PIECES)
EOS = len(PIECES) - 1
TARGET = Script(
    name="target", seed=7, vocab_size=len(PIECES), eos_token_id=EOS, context_length=160, sharpness=2
)


@dataclass(frozen=True)
class Result:
    """What a client sees in the end."""

    tokens: tuple[int, ...]
    text: str
    finish: FinishReason


def plain_decoding(script: Script, prompt: Sequence[int], sampling: SamplingParams) -> Result:
    """One token after the other, each from a cache of its own: nothing of the product but choose.

    Text is decoded whole after every token, stop strings are searched in all of it.
    """
    output: list[int] = []
    ends = {script.eos_token_id, *sampling.stop_token_ids}
    while True:
        sequence = [*prompt, *output]
        session = ScriptedEngine(script).open(script.context_length)
        session.prefill(sequence[:-1])
        token = choose(session.forward(sequence[-1:])[0], sampling, len(sequence))
        output.append(token)
        if token in ends:
            return Result(tuple(output), TOKENIZER.decode(output[:-1]), FinishReason.STOP_TOKEN)
        text = TOKENIZER.decode(output)
        cut = min((text.find(stop) for stop in sampling.stop if stop in text), default=None)
        if cut is not None:
            return Result(tuple(output), text[:cut], FinishReason.STOP_STRING)
        full = len(prompt) + len(output) == script.context_length
        if full or len(output) == sampling.max_tokens:
            return Result(tuple(output), text, FinishReason.LENGTH)


class RandomPacing:
    """A new length for every block."""

    def __init__(self, random: Random, most: int) -> None:
        self._random = random
        self._most = most

    def next_draft_tokens(self) -> int:
        return self._random.randint(0, self._most)

    def observe(self, report: RoundReport) -> None:
        assert 0 <= report.accepted <= report.drafted <= report.asked


class RandomProposer:
    """Guesses at random, as a drafter that understands nothing."""

    def __init__(self, random: Random, vocab_size: int) -> None:
        self._random = random
        self._vocab_size = vocab_size

    @property
    def tiers(self) -> tuple[str, ...]:
        return ("random",)

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        count = self._random.randint(0, k)
        return Proposal(
            tokens=tuple(self._random.randrange(self._vocab_size) for _ in range(count)),
            tiers=("random",) * count,
            entropies=tuple(self._random.random() * 3 for _ in range(count)),
        )

    def close(self) -> None:
        pass


@dataclass(kw_only=True)
class Trouble:
    """Chances of each misfortune, per opportunity."""

    lost_before: float = 0.0
    lost_after: float = 0.0
    lost_while_drafting: float = 0.0
    repeated_block: float = 0.0
    repeated_verdict: float = 0.0
    takeover: float = 0.0
    draft_failure: float = 0.0
    outage: float = 0.0
    longest_outage: int = 5
    fresh_verifier: float = 0.5


@dataclass(kw_only=True)
class Run:
    """One request from start to Summary; `events` is what its journal holds at the end."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    new_ladder: Callable[[], Proposer | None]
    random: Random
    speculation: SpeculationParams = field(default_factory=SpeculationParams)
    most_draft_tokens: int = 12
    trouble: Trouble = field(default_factory=Trouble)
    target: Script = TARGET
    context_length_of_drafts: int = TARGET.context_length
    eos_of_drafts: tuple[int, ...] = (EOS,)
    events: list[GenerateEvent] = field(default_factory=list)
    takeovers: int = 0
    losses: int = 0
    outages: int = 0

    def play(self) -> Result:
        """Run to the end and check that the stream is well formed."""
        self._ticks = itertools.count(step=1000)
        self._verifier = self._new_verifier()
        self._drafter = self._new_drafter()
        self._todo = deque(self._drafter.start())
        while self._todo:
            if self._strikes(self.trouble.takeover) and not self._ended():
                self.takeovers += 1
                self._drafter = self._new_drafter()
                self._todo = deque(self._drafter.start())
                continue
            try:
                self._todo.extend(self._perform(self._todo.popleft()))
            except SessionLost:
                self.losses += 1
                if self._strikes(self.trouble.fresh_verifier):
                    self._verifier = self._new_verifier()
                # Neither events nor a draft that is under way are lost with the verifier.
                self.events += [action.event for action in self._todo if isinstance(action, Emit)]
                due = [action for action in self._todo if action == Draft()]
                self._todo = deque(self._come_back(due))
        return self._result()

    @property
    def summary(self) -> Summary:
        """The terminal event."""
        last = self.events[-1]
        assert isinstance(last, Summary)
        return last

    @property
    def transcript(self) -> Transcript:
        """What the events say."""
        transcript = Transcript()
        for event in self.events:
            transcript.note(event)
        return transcript

    @property
    def committed(self) -> tuple:
        """All token events that hold."""
        return tuple(self.transcript.tokens)

    def _come_back(self, due: list[Action]) -> list[Action]:
        """What follows a loss: at once, or after some text without a verifier."""
        opening = self._drafter.reopen()
        if not self._strikes(self.trouble.outage):
            return [*opening, *due]
        self.outages += 1
        todo = deque([*self._drafter.write_locally(), *due])
        for _ in range(self.random.randint(0, self.trouble.longest_outage)):
            self._emit_all(todo)
            if not todo:
                return opening
            todo.extend(self._answer_draft(todo.popleft()))
            if self._strikes(self.trouble.takeover):
                self.takeovers += 1
                self._emit_all(todo)
                self._drafter = self._new_drafter()
                opening = self._drafter.start()
                todo = deque(self._drafter.write_locally())
        self._emit_all(todo)
        draft_due = bool(todo)
        if draft_due and self._strikes(0.3):
            assert self._drafter.on_draft(Proposal(), 0) == []
            return opening
        # The verifier answers before the draft that is under way.
        return [*opening, *todo]

    def _emit_all(self, todo: deque[Action]) -> None:
        while todo and isinstance(todo[0], Emit):
            self.events.append(todo.popleft().event)

    def _answer_draft(self, action: Action) -> list[Action]:
        assert action == Draft()
        if self._strikes(self.trouble.draft_failure):
            return self._drafter.on_draft_failed()
        return self._drafter.on_draft(self._drafter.draft(), 5000)

    def _perform(self, action: Action) -> list[Action]:
        match action:
            case Emit(event):
                self.events.append(event)
                return []
            case Draft():
                return self._draft()
            case Send(CancelSession()):
                assert self._drafter.finished
                return []
            case Send(message):
                return self._send(message)

    def _draft(self) -> list[Action]:
        reopening: list[Action] = []
        is_opening = any(isinstance(action, Send) for action in self._todo)
        if self._strikes(self.trouble.lost_while_drafting) and not is_opening:
            self.losses += 1
            reopening = self._drafter.reopen()
        drafted = self._answer_draft(Draft())
        # Without an open session a draft only emits, and emits are not lost with the link.
        return drafted + reopening

    def _send(self, message: Open | DraftBlock) -> list[Action]:
        if self._strikes(self.trouble.lost_before):
            raise SessionLost("before it arrived")
        answer = self._answer(message)
        if isinstance(message, DraftBlock) and self._strikes(self.trouble.repeated_block):
            assert replace(self._answer(message), compute_ns=0) == replace(answer, compute_ns=0)
        if self._strikes(self.trouble.lost_after):
            raise SessionLost("before the answer arrived")
        if isinstance(answer, Opened):
            return self._drafter.on_opened(answer, 2000)
        following = self._drafter.on_verdict(answer, 2000)
        if self._strikes(self.trouble.repeated_verdict):
            assert self._drafter.on_verdict(answer, 2000) == []
        return following

    def _answer(self, message: Open | DraftBlock) -> Opened | Verdict:
        answer = answer_locally(
            self._verifier, message, ScriptedEngine(self.target).info, "fingerprint"
        )
        assert answer is not None
        return answer

    def _new_drafter(self) -> DrafterSession:
        transcript = self.transcript
        ladder = self.new_ladder()
        return DrafterSession(
            GenerateJob(
                request_id="request",
                model="family",
                sampling=self.sampling,
                speculation=self.speculation,
            ),
            prompt=self.prompt,
            model="family",
            ladder=ladder,
            pacing=RandomPacing(self.random, self.most_draft_tokens),
            tokenizer=TOKENIZER,
            target_name="target",
            context_length_of_drafts=self.context_length_of_drafts,
            clock=lambda: next(self._ticks),
            writer=ladder if isinstance(ladder, Cascade) else None,
            eos_of_drafts=self.eos_of_drafts,
            committed=transcript.final,
            unverified=transcript.unverified,
            corrections=transcript.corrections,
            started=transcript.started,
            fingerprint=transcript.fingerprint,
            queue_ns=17,
            tokenize_ns=3,
        )

    def _new_verifier(self) -> VerifierSession:
        engine = ScriptedEngine(self.target)
        return VerifierSession(
            engine.open(self.target.context_length),
            self.sampling,
            engine.info.eos_token_ids,
            vocab_size=self.target.vocab_size,
        )

    def _strikes(self, chance: float) -> bool:
        return self.random.random() < chance

    def _ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Summary | Failure)

    def _result(self) -> Result:
        """One Started first, one Summary last, positions that follow, all of it verified."""
        assert self._drafter.finished
        kinds = [type(event) for event in self.events]
        assert kinds[0] is Started
        assert kinds[-1] is Summary
        assert set(kinds[1:-1]) <= {Tokens, Correction}
        transcript = self.transcript
        assert transcript.unverified == ()
        assert all(event.tokens for event in self.events if isinstance(event, Tokens))
        tokens = tuple(event.token for event in transcript.tokens)
        assert self._drafter.output == tokens
        text = "".join(event.text for event in transcript.tokens)
        return Result(tokens, text, self.summary.finish_reason)
