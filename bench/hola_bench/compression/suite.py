"""The benchmark's parts in their order, and the headline figures out of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hola.compression.answering import accuracy
from hola.compression.questions import read_questions
from hola.engines.onnx import OnnxEngine
from hola.models.family import Family
from hola_bench.compression import Options
from hola_bench.compression.ablation import ablation
from hola_bench.compression.draft_for import draft_for
from hola_bench.compression.peers import (
    BUILDER,
    QUICK,
    builder_peers,
    ggml_peers,
    gptq_peers,
)
from hola_bench.compression.picture import draw
from hola_bench.compression.points import Points
from hola_bench.compression.pruning import pruning
from hola_bench.compression.repairing import repairing
from hola_bench.compression.scores import OTHER, OWN, Score, Scorer, on_front
from hola_bench.compression.texts import rows_of, write_halves
from hola_bench.report import rounded
from hola_compressor.passes.source import load_model, open_checkpoint

Number = int | float
REFERENCE = "llama.cpp Q4_K_M+imatrix"
_PARTS = {"ablation": ablation, "repair": repairing, "prune": pruning, "draft": draft_for}
_WINDOW = 256
_RECOVER = 5  # steps of recovery for each of repair, as by default
_QUICK_TOKENS, _QUICK_STEPS, _QUICK_QUESTIONS = 512, 2, 8


class Suite:
    """One run of the benchmark over one tier."""

    def __init__(self, options: Options, family: Family, work: Path) -> None:
        self.options, self.family, self.work = options, family, work
        self.seeds = range(options.seed, options.seed + options.seeds)
        tiers = {tier.name: tier for tier in (*family.ladder, family.target)}
        self.tier = tiers[options.tier or family.target.name]
        self.checkpoint = open_checkpoint(self.tier.path)
        self.original = load_model(self.tier.path)
        tokens = _QUICK_TOKENS if options.quick else options.tokens
        calibration, test = write_halves(family, work, seed=options.seed)
        texts = {OWN: rows_of(test, self.checkpoint, tokens=tokens, window=_WINDOW)}
        if options.data:
            other = Path(options.data).expanduser()
            texts[OTHER] = rows_of(other, self.checkpoint, tokens=tokens, window=_WINDOW)
        self.scorer = Scorer(self.original, texts, self.checkpoint.parameters)
        self.questions = read_questions(
            test, limit=_QUICK_QUESTIONS if options.quick else options.questions
        )
        steps = _QUICK_STEPS if options.quick else options.steps
        self.points = Points(self.tier.path, work, self._base(calibration, steps), self.say)

    def _base(self, calibration: Path, steps: int) -> dict[str, Any]:
        quick = self.options.quick
        return {
            "seed": self.options.seed,
            "calibration": {
                "source": str(calibration),
                "tokens": 1024 if quick else 8192,
                "train_tokens": 4096 if quick else 131_072,
                "window": _WINDOW,
            },
            "tasks": {"questions": 0},
            "repair": {"steps": steps, "rows": 16},
            "recover": {"steps": _RECOVER * steps},
        }

    def say(self, text: str) -> None:
        """One line on stderr, where somebody watches."""
        if sys.stderr.isatty() or self.options.work:
            print(text, file=sys.stderr, flush=True)

    def run(self) -> tuple[dict[str, Number], dict[str, Any]]:
        """Headline and details of the parts asked for."""
        parts = self.options.parts
        headline: dict[str, Number] = {}
        details: dict[str, Any] = {
            "tier": self.tier.name,
            "parameters": self.checkpoint.parameters,
            "tokens": {name: sum(map(len, rows)) for name, rows in self.scorer.texts.items()},
        }
        if "pareto" in parts:
            self._pareto(headline, details)
        for name, part in _PARTS.items():
            if name in parts:
                more, rows = part(self)
                headline |= more
                details |= rows
        return headline, details

    def score(self, name: str, **changes: Any) -> Score:
        """Build a Lo-Bi artifact and run it."""
        built = self.points.build(name, **changes)
        engine = OnnxEngine(built.artifact)
        try:
            return self.scorer.of_engine(f"Lo-Bi {name}", engine, built.report.bytes)
        finally:
            engine.close()

    def accuracy(self, engine: OnnxEngine) -> float:
        """Share of the test half's questions that an engine answers rightly."""
        return accuracy(engine, self.checkpoint.tokenizer, self.tier.path, self.questions)

    def _pareto(self, headline: dict[str, Number], details: dict[str, Any]) -> None:
        quick = self.options.quick
        names = list(QUICK if quick else BUILDER)
        ours = self._ours()
        peers, missing = builder_peers(self.tier.path, self.work, self.scorer, names, self.say)
        first = self.points.first
        squares = {
            layer: first.known[unit.name].moments.diagonal()
            for unit in first.units
            if not unit.embeds
            for layer in unit.layers
        }
        llama, types = ggml_peers(self.original, squares, self.scorer, self.say)
        rows = (*first.text.measured, *first.text.trained)
        gptq, no_gptq = gptq_peers(self.tier.path, self.work, rows, self.scorer, self.say)
        missing |= no_gptq
        everybody = [*peers, *gptq, *llama]
        won = [score for score in ours if on_front(score, everybody)]
        contested = [s for s in ours if any(p.bytes <= s.bytes * 1.005 for p in everybody)]
        headline |= {"pareto_points_won": len(won), "pareto_points": len(ours)}
        details |= {
            "pareto_points_with_a_peer_as_small": len(contested),
            "lobi": [score.row() for score in ours],
            "peers": [score.row() for score in everybody],
            "peers_missing": missing,
            "llama_cpp_types": types,
        }
        if self.options.picture:
            title = f"{self.family.name}/{self.tier.name}, its own kind of text"
            draw(details["lobi"], details["peers"], Path(self.options.picture), title)
        self._at_reference(llama, headline, details)

    def _ours(self) -> list[Score]:
        points: Sequence[float] = (4.6,) if self.options.quick else self.options.points
        return [self.score(f"{bits:g} bpw", bits=bits) for bits in points]

    def _at_reference(
        self, llama: Sequence[Score], headline: dict[str, Number], details: dict[str, Any]
    ) -> None:
        """Lo-Bi at exactly the bytes of Q4_K_M with imatrix; not there without llama.cpp."""
        found = [score for score in llama if score.name == REFERENCE]
        if not found:
            return
        (reference,) = found
        runs = [
            self.score(f"at Q4_K_M seed {seed}", target_bytes=reference.bytes, seed=seed)
            for seed in self.seeds
        ]
        gap = sum(score.gap for score in runs) / len(runs)
        kld = sum(score.kld for score in runs) / len(runs)
        headline |= {
            "ppl_gap_ratio_q4km": rounded(gap / reference.gap if reference.gap else math.nan),
            "kld_ratio_q4km": rounded(kld / reference.kld),
        }
        details["at_q4km_bytes"] = [score.row() for score in (*runs, reference)]
