"""How unsure a model was of its own draft answer, from one pass: entropy, margin, NLL, gradients.

The gradient of the answer's negative log likelihood needs no autograd at the output layer. With
p the distribution at a position, e the one-hot vector of the token that was drafted, h the last
hidden state and W the output layer (logits = W h):

    d NLL / d h = W^T (p - e)          d NLL / d W = (p - e) h^T

so the second one's norm is ||p - e|| ||h||, and that of a sum over positions follows from the dot
products of their (p - e) and of their h. `hola.retrieval.gate.head` gets W, and h from the
logits. Without W, ||p - e|| alone is reported: the final norm makes ||h|| nearly constant, so it
orders answers nearly as the product does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import InvalidRequest
from hola.retrieval.gate.head import OutputHead

Array = npt.NDArray[np.float64]


def draft_signals(
    logits: npt.ArrayLike,
    tokens: npt.ArrayLike,
    head: OutputHead | None = None,
    *,
    prefix: str = "u",
) -> dict[str, float]:
    """Signals of an answer, named `prefix`_...: higher the less sure, but for margins and tokens.

    `logits` (n, vocabulary) are those in whose place each of the `tokens` (n,) stands, n >= 1:
    the drafting model's own, or those of another that reads the answer in one pass.
    Raises InvalidRequest for other shapes, non-finite logits or ids out of range.
    """
    rows, chosen = np.asarray(logits, np.float64), np.asarray(tokens)
    _check(rows, chosen)
    shifted = rows - rows.max(axis=1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(logp)
    entropy = -(p * logp).sum(axis=1)
    nll = -logp[np.arange(len(chosen)), chosen]
    margin = _margins(p)
    residual = p
    residual[np.arange(len(chosen)), chosen] -= 1.0  # p - e, in p's own memory
    norms = np.linalg.norm(residual, axis=1)
    signals = {
        "tokens": len(chosen),
        "entropy_mean": entropy.mean(),
        "entropy_max": entropy.max(),
        "margin_mean": margin.mean(),
        "margin_min": margin.min(),
        "nll_mean": nll.mean(),
        "nll_max": nll.max(),
        "residual_mean": norms.mean(),
        "residual_max": norms.max(),
    }
    if head is not None:
        signals |= _gradients(rows, residual, entropy, head)
    return {f"{prefix}_{name}": float(value) for name, value in signals.items()}


def _gradients(
    rows: Array, residual: Array, entropy: Array, head: OutputHead
) -> dict[str, np.floating]:
    """Norms of the exact gradients at the output layer, of each position and of the mean NLL.

    `gradient_weighted` is the mean of ||W^T (p - e)|| weighted by entropy: positions that the
    model could have filled in many ways count most.
    """
    hidden = head.hidden(rows)
    at_hidden = np.linalg.norm(head.pull_back(residual), axis=1)
    dots = (residual @ residual.T) * (hidden @ hidden.T)
    weight = entropy + 1e-9
    return {
        "gradient_mean": at_hidden.mean(),
        "gradient_max": at_hidden.max(),
        "gradient_weighted": (at_hidden * weight).sum() / weight.sum(),
        "weight_gradient": np.sqrt(max(dots.sum(), 0.0)) / len(rows),
        "weight_gradient_max": np.sqrt(dots.diagonal()).max(),
    }


def _margins(p: Array) -> Array:
    """Probability of the likeliest token minus that of the second."""
    if p.shape[1] == 1:
        return np.ones(len(p))
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    return np.asarray(first - second, np.float64)


def _check(rows: Array, chosen: npt.NDArray[Any]) -> None:
    if rows.ndim != 2 or chosen.shape != (len(rows),) or not rows.size:
        raise InvalidRequest(f"logits {rows.shape} do not go with tokens {chosen.shape}")
    if not np.issubdtype(chosen.dtype, np.integer):
        raise InvalidRequest("token ids must be whole numbers")
    if (chosen < 0).any() or (chosen >= rows.shape[1]).any():
        raise InvalidRequest(f"token ids must be in 0..{rows.shape[1] - 1}")
    if not np.isfinite(rows).all():
        raise InvalidRequest("logits must be finite")
