"""Accuracy of an engine on task questions: greedy replies, and likelihoods of choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from hola.compression.questions import Question, is_right
from hola.models.family import HELDOUT_FOLDER
from hola.models.manifest import MANIFEST_FILE
from hola.models.prompt import render_turns
from hola.ports import Engine, EngineSession, Logits, Tokenizer

_REPLY_TOKENS = 256


def heldout_files(tier: Path) -> list[Path]:
    """The held-out questions of the family that a tier's folder belongs to, if it has any."""
    if not (tier.parent / MANIFEST_FILE).is_file():
        return []
    return sorted((tier.parent / HELDOUT_FOLDER).glob("*.jsonl"))


def accuracy(
    engine: Engine,
    tokenizer: Tokenizer,
    folder: Path,
    questions: Sequence[Question],
    *,
    done: Callable[[], None] = lambda: None,
) -> float:
    """Share of questions answered rightly, 0 to 1; 0.0 of none.

    `folder` holds the chat template. A question that does not fit the model's context is not
    answered rightly. `done` is called after each. Raises EngineFailure, ArtifactInvalid.
    """
    right = 0
    for question in questions:
        turns = [("user", question.prompt)]
        prompt = tokenizer.encode(render_turns(folder, turns, answer_begins=True))
        check = _chosen if question.choices else _written
        right += check(engine, tokenizer, question, prompt)
        done()
    return right / len(questions) if questions else 0.0


def _written(
    engine: Engine, tokenizer: Tokenizer, question: Question, prompt: Sequence[int]
) -> bool:
    """Whether the greedy reply's final answer is right."""
    room = min(_REPLY_TOKENS, engine.info.context_length - len(prompt))
    if room < 1:
        return False
    with closing(engine.open(len(prompt) + room)) as session:
        reply = list(_greedy(session, prompt, room, engine.info.eos_token_ids))
    return is_right(question, tokenizer.decode(reply))


def _greedy(
    session: EngineSession, prompt: Sequence[int], most: int, ends: Sequence[int]
) -> Iterator[int]:
    row = session.forward(prompt)[-1]
    for left in range(most, 0, -1):
        token = int(row.argmax())
        if token in ends:
            return
        yield token
        if left > 1:
            row = session.forward((token,))[0]


def _chosen(
    engine: Engine, tokenizer: Tokenizer, question: Question, prompt: Sequence[int]
) -> bool:
    """Whether the right choice has the highest log-likelihood per byte."""
    choices = [tokenizer.encode(choice) for choice in question.choices]
    longest = len(prompt) + max(map(len, choices))
    if longest > engine.info.context_length or not all(choices):
        return False
    scores = []
    with closing(engine.open(longest)) as session:
        session.prefill(prompt[:-1])
        for choice, text in zip(choices, question.choices, strict=True):
            session.truncate(len(prompt) - 1)
            logits = session.forward([prompt[-1], *choice[:-1]])
            scores.append(_likelihood(logits, choice) / len(text.encode()))
    return question.choices[int(np.argmax(scores))] == question.answer


def _likelihood(logits: Logits, tokens: Sequence[int]) -> float:
    """Sum of the log-probabilities, nats; row i of [len(tokens), vocabulary] predicts tokens[i]."""
    rows = logits.astype(np.float64)
    top = rows.max(axis=1)
    total = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
    return float((rows[np.arange(len(tokens)), list(tokens)] - total).sum())
