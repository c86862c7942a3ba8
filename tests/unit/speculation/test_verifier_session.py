"""The verifier's side: verdicts, idempotence, rebase, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hola.engines.scripted import Script, ScriptedEngine, ScriptedSession
from hola.errors import EmptyPrompt, EngineFailure, InvalidRequest, PromptTooLong, ProtocolViolation
from hola.speculation.sampling import choose, logprob
from hola.speculation.verifier_session import PREFILL_CHUNK_TOKENS, VerifierSession
from hola.types import DraftBlock, SamplingParams, Verdict

SCRIPT = Script(vocab_size=30, eos_token_id=29, context_length=600, eos_bias=-100.0)
GREEDY = SamplingParams()
PROMPT = (1, 2, 3)


class Recording(ScriptedSession):
    """Remembers what was fed, and fails on demand."""

    def __init__(self, script: Script = SCRIPT, capacity: int = 600) -> None:
        super().__init__(script, capacity)
        self.prefills: list[int] = []
        self.forwards: list[list[int]] = []
        self.poison: float | None = None

    def forward(self, tokens):
        self.forwards.append(list(tokens))
        rows = super().forward(tokens)
        return rows if self.poison is None else rows * np.float32(self.poison)

    def prefill(self, tokens):
        self.prefills.append(len(tokens))
        super().prefill(tokens)


def opened(
    engine: ScriptedSession | None = None,
    sampling: SamplingParams = GREEDY,
    *,
    prompt: tuple[int, ...] = PROMPT,
    eos: tuple[int, ...] = (29,),
    vocab_size: int | None = 30,
) -> VerifierSession:
    session = VerifierSession(engine or Recording(), sampling, eos, vocab_size=vocab_size)
    session.rebase(prompt)
    for _ in session.prefill_steps():
        pass
    return session


def target_tokens(count: int, sampling: SamplingParams = GREEDY) -> list[int]:
    sequence = list(PROMPT)
    while len(sequence) < len(PROMPT) + count:
        rows = ScriptedEngine(SCRIPT).open(600).forward(sequence)
        sequence.append(choose(rows[-1], sampling, len(sequence)))
    return sequence[len(PROMPT) :]


def other_than(token: int) -> int:
    return (token + 1) % 29


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0, seed=8)])
def test_accepts_while_equal_then_adds_its_own(sampling: SamplingParams) -> None:
    own = target_tokens(8, sampling)
    session = opened(sampling=sampling)
    drafts = (own[0], own[1], other_than(own[2]), own[3])
    assert session.verify(DraftBlock(round=1, base_position=0, tokens=drafts)) == Verdict(
        round=1, accepted=2, token=own[2]
    )
    assert session.output == tuple(own[:3])
    assert session.verify(DraftBlock(round=2, base_position=3)).token == own[3]
    full = session.verify(DraftBlock(round=3, base_position=4, tokens=tuple(own[4:7])))
    assert (full.accepted, full.token) == (3, own[7])
    assert session.rounds == 3


def test_one_pass_per_block_feeds_only_what_is_new() -> None:
    own = target_tokens(6)
    engine = Recording()
    session = opened(engine)
    session.verify(DraftBlock(round=1, base_position=0, tokens=(own[0], other_than(own[1]))))
    session.verify(DraftBlock(round=2, base_position=2, tokens=(own[2],)))
    assert engine.forwards == [[3, own[0], other_than(own[1])], [own[1], own[2]]]
    assert session.cached_tokens == len(PROMPT) + 3


def test_the_same_block_gets_the_same_verdict_for_nothing() -> None:
    engine = Recording()
    session = opened(engine)
    block = DraftBlock(round=1, base_position=0, tokens=(5, 6))
    first = session.verify(block)
    assert session.verify(block) == first
    assert len(engine.forwards) == 1
    assert session.rounds == 1


class TestTheEnd:
    def test_a_chosen_end_token_finishes(self) -> None:
        own = target_tokens(3)
        verdict = opened(eos=(own[2],)).verify(
            DraftBlock(round=1, base_position=0, tokens=tuple(own[:2]))
        )
        assert (verdict.accepted, verdict.token, verdict.finished) == (2, own[2], True)

    def test_an_accepted_end_token_leaves_nothing_to_add(self) -> None:
        own = target_tokens(5)
        session = opened(sampling=replace(GREEDY, stop_token_ids=(own[1],)))
        block = DraftBlock(round=1, base_position=0, tokens=tuple(own))
        verdict = session.verify(block)
        assert (verdict.accepted, verdict.token, verdict.finished) == (2, None, True)
        assert session.output == tuple(own[:2])
        assert session.verify(block) == verdict
        with pytest.raises(ProtocolViolation, match="the text has ended"):
            session.verify(DraftBlock(round=2, base_position=2))

    def test_a_session_that_ended_can_be_opened_anew(self) -> None:
        own = target_tokens(5)
        session = opened(sampling=replace(GREEDY, stop_token_ids=(own[0],)))
        assert session.verify(DraftBlock(round=1, base_position=0)).finished
        session.rebase(PROMPT, (), sampling=GREEDY)
        again = session.verify(DraftBlock(round=1, base_position=0, tokens=tuple(own)))
        assert again.accepted == 5


class TestGated:
    def test_scores_committed_tokens_without_rejecting(self) -> None:
        own = target_tokens(1)
        tokens = (own[0], other_than(9), 4, 4)
        rows = ScriptedEngine(SCRIPT).open(600).forward([*PROMPT, *tokens])
        choices = [choose(row, GREEDY, 3) for row in rows[2:]]
        agreed = sum(a == b for a, b in zip(choices, tokens[:3], strict=False))
        assert 1 <= agreed < 3
        drafts = (*tokens[:3], choices[3], other_than(7))
        verdict = opened().verify(
            DraftBlock(round=1, base_position=0, tokens=drafts, committed_tokens=3)
        )
        assert verdict.agreed_tokens == agreed
        assert verdict.accepted == 4
        assert verdict.token is not None

    def test_a_committed_end_token_ends_the_text(self) -> None:
        verdict = opened().verify(
            DraftBlock(round=1, base_position=0, tokens=(4, 29), committed_tokens=2)
        )
        assert (verdict.accepted, verdict.token, verdict.finished) == (2, None, True)


def test_logprobs_are_the_target_s_for_every_token() -> None:
    own = target_tokens(3)
    session = opened(sampling=replace(GREEDY, logprobs=True))
    verdict = session.verify(DraftBlock(round=1, base_position=0, tokens=tuple(own[:2])))
    rows = ScriptedEngine(SCRIPT).open(600).forward([*PROMPT, *own])
    expected = [logprob(rows[2 + at], token) for at, token in enumerate(own)]
    assert verdict.logprobs == pytest.approx(expected)
    assert not opened().verify(DraftBlock(round=1, base_position=0)).logprobs


class TestRebase:
    def test_prefills_in_even_chunks_and_keeps_the_last_token_back(self) -> None:
        engine = Recording()
        prompt = tuple(index % 29 for index in range(300))
        session = VerifierSession(engine, GREEDY, (29,))
        assert session.rebase(prompt) == 0
        steps = list(session.prefill_steps())
        assert engine.prefills == [PREFILL_CHUNK_TOKENS, PREFILL_CHUNK_TOKENS, 43]
        assert PREFILL_CHUNK_TOKENS % 2 == 0
        assert len(steps) == 3
        assert session.cached_tokens == 299

    def test_reuses_the_common_prefix(self) -> None:
        own = target_tokens(6)
        engine = Recording()
        session = opened(engine)
        session.verify(DraftBlock(round=1, base_position=0, tokens=tuple(own[:4])))
        engine.prefills.clear()
        assert session.rebase(PROMPT, own[:3]) == len(PROMPT) + 2
        assert session.rounds == 0
        assert list(session.prefill_steps()) == []
        verdict = session.verify(DraftBlock(round=1, base_position=3, tokens=tuple(own[3:5])))
        assert (verdict.accepted, verdict.token) == (2, own[5])

    def test_another_prompt_starts_over(self) -> None:
        session = opened()
        assert session.rebase((9, 9, 9)) == 0
        assert session.output == ()

    def test_half_a_prefill_is_no_harm(self) -> None:
        """A session taken over in the middle of its prefill continues it."""
        prompt = tuple(index % 29 for index in range(300))
        session = VerifierSession(Recording(), GREEDY, (29,))
        session.rebase(prompt)
        next(session.prefill_steps())
        assert session.rebase(prompt) == PREFILL_CHUNK_TOKENS
        for _ in session.prefill_steps():
            pass
        whole = opened(prompt=prompt)
        block = DraftBlock(round=1, base_position=0, tokens=(1, 2))
        assert session.verify(block) == whole.verify(block)

    def test_refuses_an_empty_prompt(self) -> None:
        with pytest.raises(EmptyPrompt):
            VerifierSession(Recording(), GREEDY, ()).rebase((), (1, 2))

    @pytest.mark.parametrize(("prompt", "committed"), [(10, 0), (11, 0), (4, 7)])
    def test_refuses_what_leaves_no_room(self, prompt: int, committed: int) -> None:
        session = VerifierSession(Recording(SCRIPT, 10), GREEDY, ())
        with pytest.raises(PromptTooLong) as caught:
            session.rebase((1,) * prompt, (1,) * committed)
        assert caught.value.details["context_length"] == "10"

    @pytest.mark.parametrize("token", [30, -1, 2**32 - 1])
    def test_refuses_a_token_outside_the_vocabulary(self, token: int) -> None:
        session = VerifierSession(Recording(), GREEDY, (), vocab_size=30)
        with pytest.raises(InvalidRequest, match=f"{token} is outside the vocabulary of 30"):
            session.rebase((1, token))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (DraftBlock(round=2, base_position=0), "round 2 after round 0"),
        (DraftBlock(round=0, base_position=0), "round 0 after round 0"),
        (DraftBlock(round=1, base_position=1), "base_position 1, but 0"),
        (DraftBlock(round=1, base_position=0, tokens=(1,) * 65), "65 draft tokens"),
        (DraftBlock(round=1, base_position=0, tokens=(1, 30)), "token id 30"),
        (DraftBlock(round=1, base_position=0, tokens=(-5,)), "token id -5"),
        (DraftBlock(round=1, base_position=0, tokens=(1,), committed_tokens=2), "2 of 1"),
        (DraftBlock(round=1, base_position=0, tokens=(1,), committed_tokens=-1), "-1 of 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_a_block_that_breaks_the_contract(block: DraftBlock, message: str) -> None:
    engine = Recording()
    session = opened(engine)
    with pytest.raises(ProtocolViolation, match=message):
        session.verify(block)
    assert engine.forwards == []
    assert session.verify(DraftBlock(round=1, base_position=0)).token == target_tokens(1)[0]


def test_refuses_other_tokens_under_a_used_round() -> None:
    session = opened()
    session.verify(DraftBlock(round=1, base_position=0, tokens=(1,)))
    with pytest.raises(ProtocolViolation, match="round 1 after round 1"):
        session.verify(DraftBlock(round=1, base_position=0, tokens=(2,)))


def test_refuses_a_block_past_the_context() -> None:
    session = opened(Recording(SCRIPT, 10))
    with pytest.raises(ProtocolViolation, match="past the context of 10"):
        session.verify(DraftBlock(round=1, base_position=0, tokens=(1,) * 8))
    assert session.verify(DraftBlock(round=1, base_position=0, tokens=(1,) * 7)).round == 1


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_bad_logits_leave_the_session_as_it_was(poison: float) -> None:
    own = target_tokens(3)
    engine = Recording()
    session = opened(engine)
    block = DraftBlock(round=1, base_position=0, tokens=tuple(own[:2]))
    engine.poison = poison
    with pytest.raises(EngineFailure):
        session.verify(block)
    engine.poison = None
    assert session.verify(block) == Verdict(round=1, accepted=2, token=own[2])


def test_close_frees_the_cache() -> None:
    engine = Recording()
    session = opened(engine)
    session.close()
    session.close()
    assert engine.length == 0
