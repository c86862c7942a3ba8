"""What retrieved text in the lookup tier saves: draft tokens accepted per call of the target."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hola.engines.tokenizer import load_tokenizer
from hola.errors import ArtifactInvalid
from hola.models.family import Family
from hola.ports import Engine, EngineSession, Logits, Proposer
from hola.retrieval.gate.draft import draft_answer
from hola.speculation.prefix import common_prefix
from hola.speculation.proposers import Lookup, Tier, build_ladder
from hola.types import SamplingParams
from hola_bench.report import rounded
from hola_bench.retrieval.demo_ask import chat_tokens, loaded

READING = "heldout/reading.jsonl"
QUESTIONS = 60
BLOCK = 8
MAX_TOKENS = 48
_QUESTION = "Question:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A reading question: prompts with and without its passage, and the target's own answer."""

    prompt: tuple[int, ...]
    bare: tuple[int, ...]
    answer: tuple[int, ...]


def measure_lookup(family: Family, *, threads: int) -> dict[str, Any]:
    """Details. Raises ArtifactInvalid where the family has no reading questions."""
    with ExitStack() as stack:
        target = stack.enter_context(loaded(family.target.path, threads))
        read = list(_answers(family, target))
        rows = [_row("lookup without the passages", Lookup(), read, bare=True)]
        rows.append(_row("lookup", Lookup(), read))
        for tier in family.ladder:
            engine = stack.enter_context(loaded(tier.path, threads))
            for lookup in (False, True):
                counting = _Counting(engine.open(_longest(read) + BLOCK + 1))
                ladder = build_ladder(
                    [Tier(name=tier.name, session=counting)], SamplingParams(), lookup=lookup
                )
                if ladder is not None:
                    name = f"lookup, {tier.name}" if lookup else tier.name
                    row = _row(name, ladder, read)
                    row["draft_passes_per_token"] = rounded(counting.passes / row.pop("tokens"))
                    rows.append(row)
                    ladder.close()
    return {"demo_lookup": rows, "demo_lookup_questions": len(read), "demo_lookup_block": BLOCK}


def _answers(family: Family, target: Engine) -> Iterator[Read]:
    """The first questions, spread over the file."""
    path = family.path / READING
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        prompts = [str(json.loads(line)["prompt"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error!r}", path=path) from error
    tokenizer = load_tokenizer(family.target.path)
    for text in prompts[:: max(len(prompts) // QUESTIONS, 1)]:
        prompt = chat_tokens(family, tokenizer, text)
        bare = chat_tokens(family, tokenizer, text[max(text.rfind(_QUESTION), 0) :])
        answer = draft_answer(target, prompt, max_tokens=MAX_TOKENS).tokens
        yield Read(prompt=tuple(prompt), bare=tuple(bare), answer=answer)


def _row(
    name: str, proposer: Proposer, read: Sequence[Read], *, bare: bool = False
) -> dict[str, Any]:
    """Rounds of at most BLOCK draft tokens, each answered by the target with one token more."""
    calls = accepted = tokens = 0
    for question in read:
        prompt = question.bare if bare else question.prompt
        at = 0
        while at < len(question.answer):
            rest = question.answer[at:]
            drafted = proposer.propose([*prompt, *question.answer[:at]], BLOCK).tokens
            right = common_prefix(list(drafted), list(rest))
            calls += 1
            accepted += right
            at += right + 1
        tokens += len(question.answer)
    return {"ladder": name, "accepted_per_verify": rounded(accepted / calls), "tokens": tokens}


def _longest(read: Sequence[Read]) -> int:
    return max(len(question.prompt) + len(question.answer) for question in read)


class _Counting:
    """An engine session that counts its passes."""

    def __init__(self, inner: EngineSession) -> None:
        self._inner = inner
        self.passes = 0

    @property
    def length(self) -> int:
        return self._inner.length

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        self.passes += 1
        return self._inner.forward(tokens)

    def prefill(self, tokens: Sequence[int]) -> None:
        self._inner.prefill(tokens)

    def truncate(self, length: int) -> None:
        self._inner.truncate(length)

    def close(self) -> None:
        self._inner.close()
