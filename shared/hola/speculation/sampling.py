"""How a token is chosen: filters in the field's order, then argmax of log p + shared noise."""

from __future__ import annotations

from hola.ports import Logits
from hola.types import SamplingParams


def choose(row: Logits, params: SamplingParams, position: int) -> int:
    """The token for one position, a pure function of the arguments.

    `row` is float32, shape (vocab_size,), and is not changed; `position` is the absolute index of
    the chosen token in prompt + output. Temperature 0: argmax. Otherwise temperature, top-k,
    top-p, min-p, then argmax of log p + gumbel(seed, position, id). Every tie goes to the lowest
    id. Raises EngineFailure when a logit is not finite.
    """
    raise NotImplementedError


def logprob(row: Logits, token: int) -> float:
    """Natural log-probability of `token` under the unmodified distribution of `row`."""
    raise NotImplementedError


def entropy(row: Logits) -> float:
    """Entropy in nats of the unmodified distribution of `row`."""
    raise NotImplementedError
