"""Does the whole pipeline sample from the target? Speculative streams over a tiny vocabulary."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from hola.ports import Engine
from hola.types import SamplingParams
from hola_bench.cases import Case
from hola_bench.exactness.chi2 import ChiSquared, chi_squared, filtered, tally
from hola_bench.models import Models
from hola_bench.plan import Plan
from hola_bench.prompts import Prompt
from hola_bench.rig import Decoded, Rig, open_rig

VOCAB_SIZE = 8
SHARED = f"seed=11,vocab_size={VOCAB_SIZE},sharpness=1.0,eos_token_id={VOCAB_SIZE - 1}"
TINY = Models(
    name="tiny",
    target=f"scripted:{SHARED}",
    drafts=(("draft", f"scripted:{SHARED},noise=0.7"),),
)
PROMPT = Prompt(name="tiny", task="random", ids=(3, 1, 4, 1, 5))
PARAMS = SamplingParams(temperature=1.0, max_tokens=3)
LEAST_DRAWS_PER_CONTEXT = 200


def stream_tests(seed: int, draws: int) -> list[ChiSquared]:
    """Tokens of `draws` speculative streams, one seed each, against the target's distribution.

    One test for the first token, and one for every first token that was drawn often enough, for
    the token after it: those are accepted drafts, corrections and bonus tokens alike.
    """
    return asyncio.run(_streams(seed, draws))


async def _streams(seed: int, draws: int) -> list[ChiSquared]:
    plan = Plan(name="tiny", ladder=("lookup", "draft"), draft_tokens=2)
    async with open_rig(TINY, threads=1) as rig:
        outputs = [
            (await _decode(rig, plan, replace(PARAMS, seed=seed + i))).ids for i in range(draws)
        ]
        return _tests(rig.engines.target, outputs)


async def _decode(rig: Rig, plan: Plan, params: SamplingParams) -> Decoded:
    return await rig.decode(plan, Case(prompt=PROMPT, params=params))


def _tests(target: Engine, outputs: Sequence[tuple[int, ...]]) -> list[ChiSquared]:
    tests = [_test(target, "stream, first token", (), [ids[0] for ids in outputs])]
    after: dict[int, list[int]] = defaultdict(list)
    for ids in outputs:
        if len(ids) > 1:  # else the first token ended it
            after[ids[0]].append(ids[1])
    for first, second in sorted(after.items()):
        if len(second) >= LEAST_DRAWS_PER_CONTEXT:
            tests.append(_test(target, f"stream, token after {first}", (first,), second))
    return tests


def _test(target: Engine, name: str, context: tuple[int, ...], drawn: list[int]) -> ChiSquared:
    session = target.open(len(PROMPT.ids) + 4)
    try:
        row = session.forward((*PROMPT.ids, *context))[-1]
        return chi_squared(name, tally(drawn, VOCAB_SIZE), filtered(row, PARAMS))
    finally:
        session.close()
