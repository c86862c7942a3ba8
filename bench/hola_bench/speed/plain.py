"""The fastest plain decoding there is: a loop over the engine without sessions or services."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hola.ports import Engine
from hola.speculation.sampling import choose
from hola_bench.cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """An output and what it took: `prefill_s` for the prompt, `decode_s` for the tokens."""

    ids: tuple[int, ...]
    prefill_s: float
    decode_s: float


def decode(engine: Engine, case: Case) -> Timed:
    """Decode one case, with the prompt but its last token as prefill. Raises EngineFailure."""
    prompt, params = case.prompt.ids, case.params
    ends = {*engine.info.eos_token_ids, *params.stop_token_ids}
    began = time.perf_counter()
    session = engine.open(len(prompt) + params.max_tokens)
    try:
        if len(prompt) > 1:
            session.prefill(prompt[:-1])
        prefilled = time.perf_counter()
        output = [prompt[-1]]
        while len(output) <= params.max_tokens and (len(output) == 1 or output[-1] not in ends):
            row = session.forward(output[-1:])[0]
            output.append(choose(row, params, len(prompt) + len(output) - 1))
        done = time.perf_counter()
    finally:
        session.close()
    return Timed(ids=tuple(output[1:]), prefill_s=prefilled - began, decode_s=done - prefilled)
