"""Arbitrary messages at the verifier's side: typed errors only, and other sessions undisturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hola.engines.scripted import ScriptedEngine
from hola.errors import (
    EmptyPrompt,
    EngineFailure,
    HolaError,
    InvalidRequest,
    PromptTooLong,
    ProtocolViolation,
)
from hola.ports import EngineSession, Logits
from hola.speculation.sampling import choose
from hola.speculation.verifier_session import VerifierSession
from hola.types import DraftBlock, SamplingParams, Verdict
from tests.unit.speculation.drive import EOS, TARGET
from tests.unit.speculation.fuzz import FUZZ, FUZZ_LONG

SMALL = replace(TARGET, context_length=48, eos_bias=-1.0)
ENGINE = ScriptedEngine(SMALL)
REFUSALS = (ProtocolViolation, InvalidRequest, EmptyPrompt, PromptTooLong)

good_ids = st.lists(st.integers(0, EOS - 1), min_size=1, max_size=6).map(tuple)
bad_ids = st.sampled_from([(), (-1,), (EOS + 1,), (0, 2**32 - 1), (1,) * 48, (1,) * 10_000])
opens = st.tuples(
    st.just("open"),
    good_ids | good_ids | good_ids | bad_ids,
    st.lists(st.integers(0, EOS), max_size=4).map(tuple) | bad_ids,
)
# How a block differs from the next honest one; 0 and None are nothing.
blocks = st.tuples(
    st.just("block"),
    st.sampled_from([0, 0, 0, 0, -1, 1, 2**32]),
    st.sampled_from([0, 0, 0, 0, -1, 1, 2**32]),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2, -1, 10_000]),
    st.none() | st.none() | st.none() | bad_ids,
    st.integers(0, 7),
    st.integers(0, 7),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "b"]),
        opens | blocks | blocks | blocks | st.sampled_from([("again",), ("prefill",), ("fail",)]),
    ),
    min_size=5,
    max_size=60,
)
CASES = {
    "params": st.builds(
        SamplingParams,
        temperature=st.sampled_from([0, 0.7, 1.5]),
        seed=st.integers(0, 9),
        stop_token_ids=st.sampled_from([(), (3,)]),
        logprobs=st.booleans(),
    ),
    "steps": STEPS,
}


class Fragile:
    """A KV cache whose next pass can be made to fail, behind its forward."""

    def __init__(self, session: EngineSession) -> None:
        self._session = session
        self.fails = False

    @property
    def length(self) -> int:
        return self._session.length

    @property
    def capacity(self) -> int:
        return self._session.capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        rows = self._session.forward(tokens)
        if self.fails:
            self.fails = False
            raise EngineFailure("on purpose")
        return rows

    def prefill(self, tokens: Sequence[int]) -> None:
        self._session.prefill(tokens)

    def truncate(self, length: int) -> None:
        self._session.truncate(length)

    def close(self) -> None:
        self._session.close()


@dataclass
class Watched:
    """A verifier session, and what an observer with a target of its own knows of it."""

    params: SamplingParams
    prompt: tuple[int, ...] = ()
    output: list[int] = field(default_factory=list)
    rounds: int = 0
    ended: bool = False
    last: tuple[DraftBlock, Verdict] | None = None

    def __post_init__(self) -> None:
        self.cache = Fragile(ENGINE.open(SMALL.context_length))
        self.session = VerifierSession(self.cache, self.params, (EOS,), vocab_size=SMALL.vocab_size)
        self.ends = {EOS, *self.params.stop_token_ids}

    def own(self, sequence: Sequence[int]) -> int:
        """The target's own next token, from a cache of its own."""
        cache = ENGINE.open(SMALL.context_length)
        cache.prefill(sequence[:-1])
        return choose(cache.forward(sequence[-1:])[0], self.params, len(sequence))

    def step(self, name: str, *arguments: Any) -> None:
        before = self.session.output, self.session.rounds
        fails = self.cache.fails
        refused: HolaError | None = None
        try:
            self.do(name, *arguments)
        except HolaError as error:
            refused = error
        if refused is not None:
            failed = fails and not self.cache.fails
            assert isinstance(refused, EngineFailure if failed else REFUSALS)
            assert (self.session.output, self.session.rounds) == before
        assert self.session.output == tuple(self.output)
        assert self.session.rounds == self.rounds
        assert self.session.cached_tokens <= len(self.prompt) + len(self.output)

    def do(self, name: str, *arguments: Any) -> None:
        match name:
            case "open":
                self.open(*arguments)
            case "block":
                self.verify(self.block(*arguments))
            case "again" if self.last is not None:
                assert self.session.verify(self.last[0]) == self.last[1]
            case "prefill":
                next(self.session.prefill_steps(), None)
            case "fail":
                self.cache.fails = True

    def open(self, prompt: tuple[int, ...], committed: tuple[int, ...]) -> None:
        self.session.rebase(prompt, committed)
        self.prompt, self.output = prompt, list(committed)
        self.rounds, self.ended, self.last = 0, False, None

    def block(
        self, round_by: int, base_by: int, extra: int, tokens: Any, right: int, wrong: int
    ) -> DraftBlock:
        """`right` tokens as the target would choose them, then `wrong` others, then the lies."""
        drafted: list[int] = []
        sequence = [*self.prompt, *self.output]
        while self.prompt and len(drafted) < right and len(sequence) < SMALL.context_length:
            drafted.append(self.own(sequence))
            sequence.append(drafted[-1])
        drafted += [(number * 7) % EOS for number in range(wrong)]
        return DraftBlock(
            round=self.rounds + 1 + round_by,
            base_position=len(self.output) + base_by,
            tokens=tuple(drafted) if tokens is None else tokens,
            committed_tokens=extra,
        )

    def verify(self, block: DraftBlock) -> None:
        """What comes back is the target's own, token by token."""
        verdict = self.session.verify(block)
        if self.last is not None and block == self.last[0]:
            assert verdict == self.last[1]
            return
        assert not self.ended
        assert (block.round, block.base_position) == (self.rounds + 1, len(self.output))
        assert len(block.tokens) <= 64
        assert 0 <= block.committed_tokens <= len(block.tokens)
        given_out = [*block.tokens[: verdict.accepted]]
        if verdict.token is not None:
            given_out.append(verdict.token)
        sequence = [*self.prompt, *self.output]
        for at, token in enumerate(given_out):
            if at >= block.committed_tokens:
                assert token == self.own(sequence)
            sequence.append(token)
        assert verdict.finished == (given_out[-1] in self.ends)
        assert verdict.accepted >= min(block.committed_tokens, len(given_out))
        self.output += given_out
        self.rounds, self.ended, self.last = block.round, verdict.finished, (block, verdict)


def two_drafters(params: SamplingParams, steps: list[Any]) -> None:
    """Two sessions on one engine; each is checked by itself, whatever the other one is sent."""
    sessions = {"a": Watched(params), "b": Watched(replace(params, seed=params.seed + 1))}
    sessions["a"].step("open", (1, 2, 3), ())
    for who, (name, *arguments) in steps:
        sessions[who].step(name, *arguments)
    for watched in sessions.values():
        watched.cache.fails = False
        watched.step("open", (4, 5), ())
        watched.step("block", 0, 0, 0, None, 3, 1)
        assert watched.rounds == 1


@FUZZ
@given(**CASES)
def test_arbitrary_messages(params, steps) -> None:
    two_drafters(params, steps)


@pytest.mark.slow
@FUZZ_LONG
@given(**CASES)
def test_many_more_arbitrary_messages(params, steps) -> None:
    two_drafters(params, steps)
