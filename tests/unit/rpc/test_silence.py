"""Silence, lateness, answers and trouble: the pool's small decisions, without time or sockets."""

from __future__ import annotations

import pytest

from hola.errors import BadAnswer
from hola.rpc.answers import check_answer
from hola.rpc.hedge_policy import FEWEST_SAMPLES, HedgePolicy
from hola.rpc.pool_memory import Trouble
from hola.rpc.silence import Silence
from hola.types import (
    CancelSession,
    Done,
    DraftBlock,
    Exactness,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_owes_nothing_may_be_silent() -> None:
    clock = Clock()
    silence: Silence[str] = Silence(clock, 0.5)
    clock.now = 1000
    assert silence.left_s() is None


def test_the_oldest_question_counts() -> None:
    clock = Clock()
    silence: Silence[str] = Silence(clock, 0.5)
    clock.now = 10
    silence.asked("a")
    clock.now = 10.25
    silence.asked("b")
    assert silence.left_s() == 0.25
    assert silence.forget("a") == 0.25
    assert silence.left_s() == 0.5
    clock.now = 11
    assert silence.left_s() == 0
    assert silence.forget("b") == 0.75
    assert silence.forget("b") is None


def test_any_sign_of_life_counts_for_all() -> None:
    clock = Clock()
    silence: Silence[str] = Silence(clock, 0.5)
    silence.asked("a")
    clock.now = 0.5
    silence.heard()
    assert silence.left_s() == 0.5
    assert silence.heard_since(0.5)
    assert not silence.heard_since(0.6)
    assert silence.older_than(0.4) == ["a"]
    assert silence.older_than(0.5) == []


def test_a_question_asked_again_is_new() -> None:
    clock = Clock()
    silence: Silence[str] = Silence(clock, 0.5)
    silence.asked("a")
    clock.now = 0.25
    silence.asked("b")
    silence.asked("a")
    clock.now = 0.75
    assert silence.older_than(0.49) == ["b", "a"]
    assert silence.left_s() == 0


def test_lateness_is_measured_before_it_is_acted_on() -> None:
    policy = HedgePolicy(enabled=True)
    for number in range(FEWEST_SAMPLES - 1):
        policy.observe(number)
        assert policy.after_s() is None
    policy.observe(100)
    assert policy.after_s() == 18


def test_lateness_follows_the_last_hundred() -> None:
    policy = HedgePolicy(enabled=True)
    for _ in range(300):
        policy.observe(9.0)
    for number in range(100):
        policy.observe(number / 100)
    assert policy.after_s() == pytest.approx(0.94)


def test_off_is_never() -> None:
    policy = HedgePolicy(enabled=False)
    for _ in range(100):
        policy.observe(1)
    assert policy.after_s() is None


def test_trouble_is_kept_per_session_until_it_is_over() -> None:
    trouble = Trouble(most_sessions=2)
    trouble.note("s1", "a")
    trouble.note("s1", "b")
    trouble.note("s1", "a")
    trouble.note("", "a")
    assert (trouble.of("s1"), trouble.of("s2"), trouble.of("")) == (("b", "a"), (), ())
    trouble.note("s2", "c")
    trouble.note("s1", "c")
    trouble.note("s3", "c")
    assert (trouble.of("s2"), trouble.of("s1")) == ((), ("b", "a", "c"))
    trouble.over("s1")
    assert trouble.of("s1") == ()


@pytest.mark.parametrize(
    ("known", "refusing", "words"),
    [
        ("a", "a", [True]),
        ("ab", "ab", [False, True]),
        ("abc", "abc", [False, False, True]),
        ("ab", "aaa", [False, False, True]),
        ("abc", "aaaaa", [False, False, False, False, True]),
        ("abc", "abab", [False, False, False, True]),
        ("b", "a", [False]),
    ],
)
def test_a_refusal_is_final_once_all_have_had_their_chance(
    known: str, refusing: str, words: list[bool]
) -> None:
    trouble = Trouble()
    assert [trouble.refused("s", address, known) for address in refusing] == words
    trouble.over("s")
    assert trouble.refused("s", refusing[0], known) == words[0]
    assert trouble.refused("", "a", known)


OPEN = Open(session_id="s", model="m", tokenizer_fingerprint="t", prompt=(1,))
OPENED = Opened(fingerprint="f", exactness=Exactness.EXACT, context_length=8, eos_token_ids=(0,))
BLOCK = DraftBlock(round=3, base_position=4, tokens=(1, 2, 3), committed_tokens=1)

SOUND: list[tuple[VerifierRequest, VerifierResponse]] = [
    (OPEN, OPENED),
    (CancelSession(), Done(rounds=3)),
    (BLOCK, Verdict(round=3, accepted=3, token=9)),
    (BLOCK, Verdict(round=3, accepted=1, token=9, agreed_tokens=1, logprobs=(0.0, 0.0))),
    (BLOCK, Verdict(round=3, accepted=2, token=None, finished=True)),
    (DraftBlock(round=1, base_position=0), Verdict(round=1, accepted=0, token=1)),
]

WRONG: list[tuple[VerifierRequest | None, VerifierResponse]] = [
    (None, OPENED),
    (OPEN, Verdict(round=1, accepted=0, token=1)),
    (OPEN, Done(rounds=0)),
    (BLOCK, OPENED),
    (BLOCK, Done(rounds=0)),
    (CancelSession(), OPENED),
    (BLOCK, Verdict(round=2, accepted=1, token=9)),
    (BLOCK, Verdict(round=4, accepted=1, token=9)),
    (BLOCK, Verdict(round=3, accepted=4, token=9)),
    (BLOCK, Verdict(round=3, accepted=0, token=9)),
    (BLOCK, Verdict(round=3, accepted=3, token=None)),
    (BLOCK, Verdict(round=3, accepted=1, token=9, agreed_tokens=2)),
    (BLOCK, Verdict(round=3, accepted=1, token=9, logprobs=(0.0,))),
    (DraftBlock(round=1, base_position=0), Verdict(round=1, accepted=0, token=None, finished=True)),
]


@pytest.mark.parametrize(("question", "answer"), SOUND)
def test_a_sound_answer_passes(question: VerifierRequest, answer: VerifierResponse) -> None:
    check_answer(question, answer)


@pytest.mark.parametrize(("question", "answer"), WRONG)
def test_an_impossible_answer_is_found(
    question: VerifierRequest | None, answer: VerifierResponse
) -> None:
    with pytest.raises(BadAnswer):
        check_answer(question, answer)
