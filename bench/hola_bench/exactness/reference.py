"""What the target alone would write: the plainest loop there is, apart from all sessions."""

from __future__ import annotations

from collections.abc import Sequence

from hola.ports import Engine
from hola.speculation.sampling import choose
from hola.types import SamplingParams


def decode(engine: Engine, prompt: Sequence[int], params: SamplingParams) -> tuple[int, ...]:
    """Token ids of the output, the one that ended it included.

    The whole prompt in one pass, then one token at a time. Raises EngineFailure.
    """
    ends = {*engine.info.eos_token_ids, *params.stop_token_ids}
    most = min(params.max_tokens, engine.info.context_length - len(prompt))
    session = engine.open(len(prompt) + most)
    output: list[int] = []
    try:
        row = session.forward(prompt)[-1]
        while True:
            token = choose(row, params, len(prompt) + len(output))
            output.append(token)
            if token in ends or len(output) == most:
                return tuple(output)
            row = session.forward((token,))[0]
    finally:
        session.close()
