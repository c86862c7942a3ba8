"""One way to score every artifact: the same tokens, the same reference, bytes beside quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from hola.compression.report import Quality
from hola.engines.onnx import OnnxEngine
from hola_bench.report import rounded
from hola_compressor.passes.measure import Logits, compare_runs
from hola_compressor.passes.text import Row
from hola_compressor.passes.verdict import reference, runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An artifact's bytes (graph and weights) and quality per text."""

    name: str
    bytes: int
    bits_per_weight: float
    quality: Mapping[str, Quality]

    @property
    def kld(self) -> float:
        """Mean KL on the tier's own kind of text."""
        return self.quality[OWN].kld_mean

    @property
    def gap(self) -> float:
        """Rise of perplexity on the tier's own kind, as a share of the original's."""
        own = self.quality[OWN]
        return own.perplexity / own.original_perplexity - 1

    def row(self) -> dict[str, object]:
        """As a row of the report's tables."""
        row: dict[str, object] = {
            "artifact": self.name, "bytes": self.bytes, "bpw": rounded(self.bits_per_weight),
        }  # fmt: skip
        for text, quality in self.quality.items():
            row[f"{text}_kld"] = rounded(quality.kld_mean)
            row[f"{text}_kld_p99"] = rounded(quality.kld_p99)
            row[f"{text}_ppl"] = rounded(quality.perplexity)
            row[f"{text}_top1"] = rounded(quality.top1_agreement)
        return row


OWN = "own"
OTHER = "other"


class Scorer:
    """Keeps the original's logits of every text, so that it runs once."""

    def __init__(
        self, original: nn.Module, texts: Mapping[str, Sequence[Row]], parameters: int
    ) -> None:
        run = reference(original)
        self.texts = texts
        self._parameters = parameters
        self._kept = {tuple(row): run(row) for rows in texts.values() for row in rows}

    def of_engine(self, name: str, engine: OnnxEngine, size: int) -> Score:
        """Score what onnxruntime runs."""
        return self._score(name, runner(engine), size)

    def of_model(self, name: str, model: nn.Module, size: int) -> Score:
        """Score a model in torch."""
        return self._score(name, reference(model), size)

    def _score(self, name: str, run: Callable[[Row], Logits], size: int) -> Score:
        quality = {
            text: compare_runs(rows, lambda row: self._kept[tuple(row)], run).quality(text)
            for text, rows in self.texts.items()
        }
        return Score(
            name=name, bytes=size, bits_per_weight=8 * size / self._parameters, quality=quality
        )


def on_front(own: Score, others: Sequence[Score], *, slack: float = 1.005) -> bool:
    """True when nobody of the same bytes or fewer (`slack` times) has less KL."""
    return all(other.kld >= own.kld for other in others if other.bytes <= own.bytes * slack)
