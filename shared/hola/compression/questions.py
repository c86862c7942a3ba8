"""Task questions: files in three common forms, and whether a reply answers one.

Accuracy of worded answers is EMA (exact match of the final answer), of listed choices MCA (the
choice that the model finds likeliest, per byte). The data itself stays with whoever measures.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.errors import DocumentInvalid

EMA, MCA = "ema", "mca"
_MAX_FILE_BYTES = 2**28
_MARK = "####"  # before the final answer in GSM8K's solutions
_STATED = re.compile(r"answer is:?\s*(.+?)\s*(?:\.(?:\s|$)|\n|$)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. With `choices` the answer is one of them, else the reply's final answer."""

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """EMA or MCA."""
        return MCA if self.choices else EMA


def read_questions(file: Path, *, limit: int = 0) -> list[Question]:
    """The questions of a .jsonl file, or always the same `limit` of them (0: all).

    Each line is an object of one of these forms:
    {"prompt", "answer"}; GSM8K's {"question", "answer"} with the final answer behind ####;
    ARC's {"question", "choices", "answerKey"}, also with the choices as a plain list and `answer`
    as an index into it, or with the question as {"stem", "choices"}.
    Raises DocumentInvalid, naming the line.
    """
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise DocumentInvalid(f"{file.name} is larger than 256 MiB", source=file.name)
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentInvalid(
            f"{file} cannot be read as UTF-8: {error}", source=file.name
        ) from None
    found = [
        _question(file.name, number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise DocumentInvalid(f"{file.name} holds no question", source=file.name)
    if not limit or limit >= len(found):
        return found
    # Drawn, since files often go through their kinds of questions in turn.
    return random.Random(limit).sample(found, limit)


def is_right(question: Question, reply: str) -> bool:
    """Whether the reply's final answer is the question's: as a number, or as text without case."""
    return same_answer(question.answer, final_answer(reply))


def final_answer(reply: str) -> str:
    """What follows the last #### or "answer is", else the last number, else the whole reply."""
    if _MARK in reply:
        return reply.rsplit(_MARK, 1)[1].strip()
    if stated := _STATED.findall(reply):
        return str(stated[-1])
    numbers = _NUMBER.findall(reply)
    return numbers[-1] if numbers else reply.strip()


def same_answer(one: str, other: str) -> bool:
    """Equal as numbers where both are ($ and % and thousands' commas aside), else as text."""
    numbers = _value(one), _value(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return one.strip(" .").casefold() == other.strip(" .").casefold()


def _value(text: str) -> float | None:
    plain = text.strip(" .$%")
    return float(plain.replace(",", "")) if _NUMBER.fullmatch(plain) else None


def _question(name: str, number: int, line: str) -> Question:
    try:
        entry = json.loads(line)
        if not isinstance(entry, Mapping):
            raise TypeError(line)
        if "choices" in entry or isinstance(entry.get("question"), Mapping):
            return _choice(entry)
        if "prompt" in entry:
            return Question(prompt=_text(entry["prompt"]), answer=_text(entry["answer"]))
        answer = final_answer(_text(entry["answer"]))
        return Question(prompt=_text(entry["question"]), answer=answer)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise DocumentInvalid(
            f"{name}, line {number}: needs an object with prompt and answer, question and answer,"
            " or question, choices and answerKey",
            source=name,
        ) from None


def _choice(entry: Mapping[str, Any]) -> Question:
    stem = entry["question"]
    if isinstance(stem, Mapping):
        stem, listed = stem["stem"], stem["choices"]
    else:
        listed = entry["choices"]
    if isinstance(listed, Mapping):
        labels, texts = list(listed["label"]), [_text(text) for text in listed["text"]]
    elif all(isinstance(one, Mapping) for one in listed):
        labels, texts = [one["label"] for one in listed], [_text(one["text"]) for one in listed]
    else:
        labels, texts = list(range(len(listed))), [_text(text) for text in listed]
    key = entry["answerKey"] if "answerKey" in entry else entry["answer"]
    if len(texts) < 2:
        raise ValueError("one choice is none")
    return Question(prompt=_text(stem), answer=texts[labels.index(key)], choices=tuple(texts))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(value)
    return value
