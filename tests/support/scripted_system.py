"""A family of scripted engines, its plain decoding, and an in-process verifier that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hola.engines.scripted import Script, ScriptedEngine, ScriptedTokenizer
from hola.errors import HolaError, SessionLost, VerifierUnavailable
from hola.speculation.sampling import choose
from hola.speculation.verifier_session import VerifierSession
from hola.types import (
    CancelSession,
    Done,
    DraftBlock,
    Exactness,
    GenerateEvent,
    GenerateJob,
    Open,
    Opened,
    SamplingParams,
    TokenEvent,
    Tokens,
    VerifierInfo,
    VerifierRequest,
    VerifierResponse,
)
from hola_drafter.drafter import DraftModel

TARGET = Script(name="target", seed=7, sharpness=3.0)
TIERS = {
    "tiny": replace(TARGET, name="tiny", noise=0.7, noise_seed=3),
    "small": replace(TARGET, name="small", noise=0.3, noise_seed=4),
}
PROMPT = "Tom has 12 apples. He buys 5 more."


def draft_model(*, target: Script = TARGET) -> DraftModel:
    """The family as a drafter loads it: two noisy copies of the target."""
    return DraftModel(
        name="scripted",
        target_name="target",
        context_length=target.context_length,
        tokenizer=ScriptedTokenizer(),
        engines={name: ScriptedEngine(script) for name, script in TIERS.items()},
    )


def plain_tokens(
    sampling: SamplingParams, prompt: str = PROMPT, *, target: Script = TARGET
) -> list[int]:
    """What the target alone writes, one token at a time."""
    session = ScriptedEngine(target).open(target.context_length)
    sequence = ScriptedTokenizer().encode(prompt)
    row = session.forward(sequence)[-1]
    output: list[int] = []
    while len(output) < sampling.max_tokens:
        token = choose(row, sampling, len(sequence))
        sequence.append(token)
        output.append(token)
        if token == target.eos_token_id or token in sampling.stop_token_ids:
            break
        row = session.forward([token])[-1]
    return output


def job(request_id: str = "r1", **changes: object) -> GenerateJob:
    """A job of 40 tokens on PROMPT."""
    return replace(
        GenerateJob(
            request_id=request_id,
            model="scripted",
            prompt=PROMPT,
            sampling=SamplingParams(max_tokens=40, temperature=0.7, seed=11),
        ),
        **changes,
    )


def tokens_of(events: list[GenerateEvent]) -> list[TokenEvent]:
    """All tokens of a stream; fails when their positions have a gap or an overlap."""
    found: list[TokenEvent] = []
    for event in events:
        if isinstance(event, Tokens):
            assert event.position == len(found), f"{event.position} after {len(found)} tokens"
            found.extend(event.tokens)
    return found


def ids_of(events: list[GenerateEvent]) -> list[int]:
    """Token ids of a stream."""
    return [token.token for token in tokens_of(events)]


def text_of(events: list[GenerateEvent]) -> str:
    """The text of a stream."""
    return "".join(token.text for token in tokens_of(events))


@dataclass
class InProcessVerifier:
    """A VerifierPort on one scripted target, with a switch for every way to lose it.

    `fail(n)` is asked before the n-th message (from 0, all links together) and may return the
    error to raise instead of an answer; `refuse_connects` counts down with each connect; while
    `hold` is set, answers wait for it.
    """

    target: Script = TARGET
    fingerprint: str = "f" * 64
    fail: Callable[[int], HolaError | None] = lambda n: None
    refuse_connects: int = 0
    hold: asyncio.Event | None = None
    address: str = "test:"
    messages: int = 0
    opens: int = 0
    cancelled: list[str] = field(default_factory=list)
    open_links: int = 0

    async def info(self) -> VerifierInfo:
        return VerifierInfo(
            version="test",
            model="scripted",
            tokenizer_fingerprint=ScriptedTokenizer().fingerprint,
            artifact_digest="",
            fingerprint=self.fingerprint,
            exactness=Exactness.EXACT,
            context_length=self.target.context_length,
        )

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> InProcessLink:
        if self.refuse_connects > 0:
            self.refuse_connects -= 1
            raise VerifierUnavailable("refused", address=self.address)
        self.open_links += 1
        return InProcessLink(self)

    async def close(self) -> None:
        """Nothing to close."""


class InProcessLink:
    """One session's stream."""

    def __init__(self, verifier: InProcessVerifier) -> None:
        self._verifier = verifier
        self._session: VerifierSession | None = None
        self._session_id = ""
        self._answer: VerifierResponse | HolaError | None = None
        self._closed = False

    async def send(self, message: VerifierRequest) -> None:
        verifier = self._verifier
        if self._closed:
            raise SessionLost("closed")
        if isinstance(message, CancelSession):
            verifier.cancelled.append(self._session_id)
            self._answer = Done(rounds=0)
            return
        failure = verifier.fail(verifier.messages)
        verifier.messages += 1
        self._answer = failure if failure is not None else self._handle(message)

    async def receive(self) -> VerifierResponse:
        if self._verifier.hold is not None:
            await self._verifier.hold.wait()
        await asyncio.sleep(0)
        answer, self._answer = self._answer, None
        if isinstance(answer, HolaError):
            raise answer
        assert answer is not None, "receive without send"
        return answer

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._verifier.open_links -= 1

    def _handle(self, message: Open | DraftBlock) -> VerifierResponse | HolaError:
        try:
            if isinstance(message, DraftBlock):
                assert self._session is not None, "a block before Open"
                return self._session.verify(message)
            return self._open(message)
        except HolaError as error:
            return error

    def _open(self, message: Open) -> Opened:
        verifier, script = self._verifier, self._verifier.target
        verifier.opens += 1
        self._session_id = message.session_id
        engine = ScriptedEngine(script).open(script.context_length)
        self._session = VerifierSession(engine, message.sampling, (script.eos_token_id,))
        self._session.rebase(message.prompt, message.committed)
        for _ in self._session.prefill_steps():
            pass
        return Opened(
            fingerprint=verifier.fingerprint,
            exactness=Exactness.EXACT,
            context_length=script.context_length,
            eos_token_ids=(script.eos_token_id,),
        )
