"""How far a model is from the original on a text: KL, perplexity, agreement."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hola.compression.report import Quality
from hola_compressor.passes.text import Row, batches, vocabulary_of

ANCHOR_TOKENS = 2048  # of a text that one tensor's damage is measured on
KEPT_BYTES = 2**30  # of the original's logits on all of a text
_HALF = 2  # bytes
_COMPARED_AT_ONCE = 2**24  # logits: 64 MiB in fp32, and some times that on the way


@dataclass(slots=True)
class Tally:
    """Sums over positions: KL values, negative log-likelihoods, equal first choices."""

    kld: list[Tensor]
    nll: float = 0.0
    original_nll: float = 0.0
    agreed: int = 0
    tokens: int = 0

    def add(self, original: Tensor, other: Tensor, targets: Tensor) -> None:
        """Logits [n, vocabulary] of both at n positions, and the tokens that came next."""
        size = max(1, _COMPARED_AT_ONCE // original.shape[1])
        parts = (torch.split(each, size) for each in (original, other, targets))
        for part in zip(*parts, strict=True):
            self._add(*part)

    def _add(self, original: Tensor, other: Tensor, targets: Tensor) -> None:
        p, q = original.float().log_softmax(-1), other.float().log_softmax(-1)
        self.kld.append((p.exp() * (p - q)).sum(-1))
        at = targets[:, None]
        self.nll -= float(q.gather(1, at).double().sum())
        self.original_nll -= float(p.gather(1, at).double().sum())
        self.agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        self.tokens += len(targets)

    @property
    def kld_mean(self) -> float:
        """Nats per token."""
        return float(torch.cat(self.kld).double().mean())

    def quality(self, text: str) -> Quality:
        """As a row of the report."""
        return Quality(
            text=text,
            tokens=self.tokens,
            perplexity=_perplexity(self.nll / self.tokens),
            original_perplexity=_perplexity(self.original_nll / self.tokens),
            kld_mean=self.kld_mean,
            kld_p99=float(torch.cat(self.kld).double().quantile(0.99)),
            top1_agreement=self.agreed / self.tokens,
        )


def _perplexity(nll: float) -> float:
    """Infinite where nothing of the text was expected."""
    return math.exp(nll) if nll < math.log(sys.float_info.max) else math.inf


def kept_bytes(tokens: int, vocabulary: int, most: int = sys.maxsize) -> int:
    """Bytes of the original's logits that a Judge keeps: all of them, or none above `most`."""
    whole = _HALF * tokens * vocabulary
    return whole if whole <= most else 0


class Judge:
    """The original's logits on some rows, in half precision, to compare others with.

    They are kept where they take no more than `keep_bytes`; where they take more, the original
    runs again in every comparison, and must be as it was.
    """

    def __init__(
        self, original: nn.Module, rows: Sequence[Row], *, keep_bytes: int = sys.maxsize
    ) -> None:
        vocabulary = vocabulary_of(original)
        self._original = original
        self._batches = list(batches(rows, vocabulary))
        self._kept: list[Tensor] | None = None
        if kept_bytes(sum(map(len, rows)), vocabulary, keep_bytes):
            self._kept = [self._logits(ids, known) for ids, known in self._batches]

    @torch.inference_mode()
    def compare(self, model: nn.Module) -> Tally:
        """Run the other model on the same rows."""
        tally = Tally(kld=[])
        for number, (ids, known) in enumerate(self._batches):
            logits = self._kept[number] if self._kept else self._logits(ids, known)
            tally.add(logits, _at(model, ids, known), ids[:, 1:][known])
        return tally

    def _logits(self, ids: Tensor, known: Tensor) -> Tensor:
        return _at(self._original, ids, known).half()


@torch.inference_mode()
def _at(model: nn.Module, ids: Tensor, known: Tensor) -> Tensor:
    """Logits where the next token is known, [n, vocabulary]."""
    found: Tensor = model(input_ids=ids, use_cache=False).logits[:, :-1][known]
    return found


Logits = npt.NDArray[np.float32]


def compare_runs(
    rows: Iterable[Row], original: Callable[[Row], Logits], other: Callable[[Row], Logits]
) -> Tally:
    """Compare two ways of getting a row's logits [len(row), vocabulary], row by row."""
    tally = Tally(kld=[])
    for row in rows:
        left, right = original(row)[: len(row) - 1], other(row)[: len(row) - 1]
        targets = torch.tensor(row[1:])
        tally.add(torch.from_numpy(left), torch.from_numpy(right), targets)
    return tally
