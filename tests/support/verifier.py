"""Verifiers for tests: a scripted target that can be watched and held, behind each kind of port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hola.config import Settings
from hola.engines.fingerprint import probe
from hola.engines.scripted import Script, ScriptedEngine, ScriptedTokenizer
from hola.errors import MemoryBudgetExceeded
from hola.ports import EngineInfo, EngineSession, Logits, VerifierLink, VerifierPort
from hola.rpc.verifier_client import GrpcVerifier
from hola.speculation.sampling import choose
from hola.types import DraftBlock, Open, SamplingParams, Verdict, VerifierRequest
from hola_verifier.app import VerifierApp, build
from hola_verifier.target import Target

KINDS = ("local", "loopback", "unix")
PROMPT = tuple(b"Tom has 12 apples.")


@dataclass(frozen=True, slots=True)
class Pass:
    """One engine pass: the session's number, "prefill" or "forward", and its tokens."""

    session: int
    kind: str
    width: int


class WatchedEngine:
    """A scripted engine that records its passes and can be held in the middle of one."""

    def __init__(self, *, kv_bytes_per_token: int = 8, **script: Any) -> None:
        self._kv_bytes_per_token = kv_bytes_per_token
        self.scripted = ScriptedEngine(Script(**{"eos_bias": -1e9, **script}))
        self.passes: list[Pass] = []
        self.closed_sessions = 0
        self.may_run = threading.Event()
        self.may_run.set()
        self.entered = threading.Event()
        self.fail_next: Exception | None = None
        self.most_open_sessions = 1000
        self.opened_sessions = 0

    @property
    def info(self) -> EngineInfo:
        return replace(self.scripted.info, kv_bytes_per_token=self._kv_bytes_per_token)

    def open(self, capacity: int) -> EngineSession:
        if self.opened_sessions - self.closed_sessions >= self.most_open_sessions:
            raise MemoryBudgetExceeded("no room for a cache", needed_bytes=2, available_bytes=1)
        self.opened_sessions += 1
        return _WatchedSession(self, self.opened_sessions, self.scripted.open(capacity))

    def close(self) -> None:
        self.scripted.close()

    def enter(self, entry: Pass) -> None:
        """Called at the start of each pass, on the worker's thread."""
        self.passes.append(entry)
        self.entered.set()
        if not self.may_run.wait(timeout=30):
            raise TimeoutError("the test never let the pass go on")
        error, self.fail_next = self.fail_next, None
        if error is not None:
            raise error

    def forget(self) -> None:
        """Start counting anew."""
        self.passes.clear()
        self.closed_sessions = self.opened_sessions = 0

    def hold(self) -> None:
        """Stop the next pass until `release`."""
        self.may_run.clear()
        self.entered.clear()

    def release(self) -> None:
        self.may_run.set()

    async def in_pass(self) -> None:
        """Wait until a pass has been entered since `hold`."""
        assert await asyncio.to_thread(self.entered.wait, 10), "no pass was begun"


class _WatchedSession:
    def __init__(self, engine: WatchedEngine, number: int, inner: EngineSession) -> None:
        self._engine = engine
        self._number = number
        self._inner = inner
        self._closed = False

    @property
    def length(self) -> int:
        return self._inner.length

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        self._engine.enter(Pass(self._number, "forward", len(tokens)))
        return self._inner.forward(tokens)

    def prefill(self, tokens: Sequence[int]) -> None:
        self._engine.enter(Pass(self._number, "prefill", len(tokens)))
        self._inner.prefill(tokens)

    def truncate(self, length: int) -> None:
        self._inner.truncate(length)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine.closed_sessions += 1
        self._inner.close()


def target_of(engine: WatchedEngine) -> Target:
    """A target named "scripted" on an engine, probed; the probe's passes are not kept."""
    fingerprint = probe(engine)
    engine.forget()
    return Target(
        model="scripted",
        engine=engine,
        tokenizer_fingerprint=ScriptedTokenizer(engine.info.vocab_size).fingerprint,
        artifact_digest="a" * 64,
        fingerprint=fingerprint,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A running verifier and a port to it."""

    app: VerifierApp
    port: VerifierPort
    engine: WatchedEngine
    target: Target
    settings: Settings

    def open_request(self, **changes: Any) -> Open:
        """A valid Open for PROMPT, with changes."""
        request = Open(
            session_id="s1",
            model="scripted",
            tokenizer_fingerprint=self.target.tokenizer_fingerprint,
            prompt=PROMPT,
            sampling=SamplingParams(max_tokens=64),
        )
        return replace(request, **changes)

    async def opened(self, **changes: Any) -> VerifierLink:
        """A link whose session is open."""
        link = await self.port.connect()
        await ask(link, self.open_request(**changes))
        return link


@asynccontextmanager
async def running_verifier(
    kind: str, folder: Path, *, engine: WatchedEngine | None = None, **settings: Any
) -> AsyncIterator[Rig]:
    """Start a verifier, give a port of `kind` to it, and stop both."""
    engine = engine or WatchedEngine()
    listen = f"unix://{folder}/verifier.sock" if kind == "unix" else "127.0.0.1:0"
    chosen = Settings(**{"listen": listen, "drain_s": 0.0, "memory_budget_mb": 16, **settings})
    target = target_of(engine)
    app = build(chosen, target=target)
    await (app.open() if kind == "local" else app.start())
    port = app.port if kind == "local" else GrpcVerifier(app.address, chosen)
    try:
        yield Rig(app=app, port=port, engine=engine, target=target, settings=chosen)
    finally:
        engine.release()
        await port.close()
        await app.stop()


async def ask(link: VerifierLink, message: VerifierRequest) -> Any:
    """Send a message and receive its answer."""
    await link.send(message)
    async with asyncio.timeout(20):
        return await link.receive()


async def plain(
    link: VerifierLink, count: int, *, first_round: int = 1, base: int = 0
) -> list[int]:
    """`count` tokens by empty blocks."""
    tokens: list[int] = []
    for step in range(count):
        verdict: Verdict = await ask(
            link, DraftBlock(round=first_round + step, base_position=base + step)
        )
        assert verdict.token is not None
        tokens.append(verdict.token)
    return tokens


def reference(
    engine: WatchedEngine,
    count: int,
    sampling: SamplingParams | None = None,
    prompt: tuple[int, ...] = PROMPT,
) -> list[int]:
    """What the target alone writes: one token at a time on a session of its own."""
    sampling = sampling or SamplingParams()
    session = engine.scripted.open(len(prompt) + count)
    output: list[int] = []
    rows = session.forward(prompt)
    for position in range(len(prompt), len(prompt) + count):
        output.append(choose(rows[-1], sampling, position))
        rows = session.forward(output[-1:])
    return output


async def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    """Wait until something holds that another task or thread brings about."""
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():  # noqa: ASYNC110 - the other side is a thread or a socket
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None
