"""What clients ask for, and what the target alone answers, computed once before the run."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from hola.errors import InvalidRequest
from hola.models.family import Family
from hola.types import SamplingParams
from hola_bench.cases import Case
from hola_bench.chaos.judge import Expected
from hola_bench.exactness.reference import decode
from hola_bench.models import Engines, Models, load
from hola_bench.prompts import Prompt, heldout

TEMPERATURES = (0.0, 0.7, 1.0, 1.3)
LENGTHS = (12, 60, 160, 360)
# A prompt without the turn that asks for an answer rambles on, which makes a long stream.
RAMBLING = 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Cases with their prompts as text and their expected outputs, index by index."""

    tiers: tuple[str, ...]
    cases: tuple[Case, ...]
    texts: tuple[str, ...]
    expected: tuple[Expected, ...]


def prepare(models: Models, family: Family | None, count: int, *, seed: int) -> Work:
    """Draw `count` cases and decode them plainly. Without a family the prompts are made up."""
    engines = load(models, threads=1)
    try:
        texts = _texts(family, engines, count, seed)
        cases = tuple(_case(engines, text, number, seed) for number, text in enumerate(texts))
        expected = tuple(_expected(engines, case) for case in cases)
    finally:
        engines.close()
    return Work(tiers=models.draft_names, cases=cases, texts=texts, expected=expected)


def _texts(family: Family | None, engines: Engines, count: int, seed: int) -> tuple[str, ...]:
    rng = random.Random(f"prompts {seed}")
    if family is None:
        return tuple(
            "".join(rng.choice("abcdefgh ") for _ in range(rng.randint(4, 40)))
            for _ in range(count)
        )
    questions = heldout(family, engines.tokenizer, count, seed=seed)
    return tuple(_shorter(rng, question.text) for question in questions)


def _shorter(rng: random.Random, text: str) -> str:
    return text[: max(12, len(text) // 3)] if rng.random() < RAMBLING else text


def _case(engines: Engines, text: str, number: int, seed: int) -> Case:
    rng = random.Random(f"case {seed} {number}")
    ids = tuple(engines.tokenizer.encode(text))
    room = engines.target.info.context_length - len(ids)
    if room < 1:
        raise InvalidRequest(f"prompt {number} fills the context", field="prompt")
    return Case(
        prompt=Prompt(name=f"chaos-{number:03}", task="chaos", ids=ids, text=text),
        params=SamplingParams(
            temperature=rng.choice(TEMPERATURES),
            top_k=rng.choice((0, 0, 40)),
            top_p=rng.choice((1.0, 1.0, 0.9)),
            seed=zlib.crc32(f"{seed}/{number}".encode()),
            max_tokens=min(room, rng.choice(LENGTHS)),
        ),
    )


def _expected(engines: Engines, case: Case) -> Expected:
    ids = decode(engines.target, case.prompt.ids, case.params)
    return Expected(ids=ids, text=engines.tokenizer.decode(ids))
