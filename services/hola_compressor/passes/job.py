"""One job from checkpoint to artifact: the passes in their order, each finished one kept."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from hola.compression.allocate import Choice, allocate, exchange_rate, smallest_bytes
from hola.compression.plan import UNQUANTIZED, Objective, Plan
from hola.compression.report import REPORT_FILE, PassRow, write_report
from hola.engines.decoder_config import CONFIG_FILE
from hola.errors import BudgetInfeasible, InvalidRequest
from hola.models.checkpoint import convert_checkpoint
from hola_compressor.passes import Built, Progress
from hola_compressor.passes.clock import Clock
from hola_compressor.passes.codes import Coded, Scheme, encode
from hola_compressor.passes.compensate import compensated
from hola_compressor.passes.damage import (
    Statistics,
    anchor,
    estimated,
    factor,
    measured,
    rounded_copy,
    schemes,
    statistics,
)
from hola_compressor.passes.graph import find_units, fixed_bytes, half, load_graph, write_graph
from hola_compressor.passes.keep import Kept
from hola_compressor.passes.measure import ANCHOR_TOKENS, KEPT_BYTES, Judge
from hola_compressor.passes.nodes import tables_bytes
from hola_compressor.passes.original import original_graph
from hola_compressor.passes.predict import check_room
from hola_compressor.passes.prune import check_prunable
from hola_compressor.passes.repair import repaired
from hola_compressor.passes.smaller import Smaller, smaller
from hola_compressor.passes.source import (
    digest,
    load_model,
    open_checkpoint,
    tokenizer_files,
)
from hola_compressor.passes.speed import with_speed
from hola_compressor.passes.text import Text, calibration_text
from hola_compressor.passes.timing import product_ms
from hola_compressor.passes.units import Unit, put_weight, weight_of
from hola_compressor.passes.verdict import first_tokens, make_report

Table = dict[str, list[list[object]]]
_ESTIMATE_ROWS = 4096  # tokens that statistics are taken from
_NO_LIMIT = 2**62


def run(
    plan: Plan,
    source: Path,
    work: Path,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Built:
    """See hola_compressor.passes.run."""
    return Job(plan, source, work, Clock(plan, progress, cancelled)).built()


class Job:
    """The passes of one plan over one checkpoint; every property is computed or read back once."""

    def __init__(self, plan: Plan, source: Path, work: Path, clock: Clock) -> None:
        self.plan, self.source, self.work, self.clock = plan, source, work, clock
        self.checkpoint = open_checkpoint(source)
        check_room(plan, self.checkpoint, work)
        self.kept = Kept(work)
        self._same_job()
        self.original = load_model(source)
        torch.manual_seed(plan.seed)

    def _same_job(self) -> None:
        """A directory belongs to one plan and source: another's results would mix silently."""
        facts = {"plan": self.plan.document(), "source": digest(self.source)}
        before = self.kept.document("00-job", lambda: facts)
        if before != json.loads(json.dumps(facts)):
            raise InvalidRequest(
                f"{self.work.name} holds another job's passes; use a new directory", field="work"
            )

    @cached_property
    def text(self) -> Text:
        """Calibration rows."""

        def make() -> object:
            self.clock.begin("text", "reading or writing calibration text")
            found = calibration_text(
                self.plan.calibration, self.checkpoint, self.original, seed=self.plan.seed,
                written_share=lambda share: self.clock.part("text", share, "writing text"),
            )  # fmt: skip
            return {"m": found.measured, "t": found.trained, "sha256": found.sha256}

        kept = self.kept.document("01-text", make)
        return Text(measured=tuple(kept["m"]), trained=tuple(kept["t"]), sha256=kept["sha256"])

    @cached_property
    def smaller(self) -> Smaller:
        """The checkpoint to quantize: the source, or what pruning and recovery made of it."""
        return smaller(self)

    @property
    def checkpoint_folder(self) -> Path:
        """Where that checkpoint lies."""
        return self.smaller.folder

    @cached_property
    def model(self) -> nn.Module:
        """The model to quantize."""
        folder = self.checkpoint_folder
        return self.original if folder == self.source else load_model(folder)

    @cached_property
    def graph_folder(self) -> Path:
        """Its graph in fp32, as the builder writes it."""

        def make(folder: Path) -> None:
            self.clock.begin("graph", "exporting the graph")
            convert_checkpoint(
                self.checkpoint_folder, folder, precision="fp32", progress=self.clock.say
            )

        return self.kept.folder("04-graph", make)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The graph's matrices."""
        return find_units(load_graph(self.graph_folder), self.model)

    @cached_property
    def judge(self) -> Judge:
        """Compares with the original on all rows that are not trained on."""
        return Judge(self.original, self.text.measured, keep_bytes=KEPT_BYTES)

    @cached_property
    def known(self) -> dict[str, Statistics]:
        """Input moments and output Fisher information of each unit."""

        def make() -> dict[str, torch.Tensor]:
            self.clock.begin("measure", "statistics of activations and gradients")
            rows = first_tokens(self.text.measured, _ESTIMATE_ROWS)
            found = statistics(self.model, self.units, rows, seed=self.plan.seed)
            moments = {f"{name}:h": item.moments for name, item in found.items()}
            return {**moments, **{f"{name}:f": item.fisher for name, item in found.items()}}

        kept = self.kept.tensors("05-statistics", make)
        names = [unit.name for unit in self.units]
        return {
            name: Statistics(moments=kept[f"{name}:h"], fisher=kept[f"{name}:f"]) for name in names
        }

    @cached_property
    def table(self) -> dict[str, list[tuple[Scheme, float]]]:
        """Damage of every option of every unit."""

        def make() -> Table:
            judge = Judge(self.original, first_tokens(self.text.measured, ANCHOR_TOKENS))
            base = max(judge.compare(self.model).kld_mean, 0.0) if self.plan.prune.active else 0.0
            found: Table = {}
            for number, unit in enumerate(self.units):
                self.clock.part("measure", number / len(self.units), f"damage of {unit.name}")
                found[unit.name] = self._row(unit, judge, base)
            return found

        kept = self.kept.document("06-damage", make)
        return {
            name: [
                (Scheme(bits=bits, block=block, symmetric=symmetric), damage)
                for bits, block, symmetric, damage in row
            ]
            for name, row in kept.items()
        }

    def _row(self, unit: Unit, judge: Judge, base: float) -> list[list[object]]:
        known, weight = self.known[unit.name], weight_of(self.model, unit)
        scale = factor(self.model, unit, judge, anchor(self.plan.quantize), known, base=base)
        return [
            [s.bits, s.block, s.symmetric, scale * estimated(weight, s, known)]
            for s in schemes(self.plan.quantize, unit)
        ]

    def bytes_of(self, unit: Unit, scheme: Scheme) -> int:
        """What the budget counts: the file, or memory when the budget is a device's."""
        kind = scheme.kernel_bytes if self.plan.device else scheme.disk_bytes
        return kind(unit.rows, unit.columns) + scheme.graph_bytes

    def choices(self, scales: dict[str, float]) -> dict[str, list[Choice]]:
        """The allocator's table, damages multiplied by each unit's scale."""
        units = {unit.name: unit for unit in self.units}
        return {
            name: [
                Choice(
                    option=scheme.name,
                    bytes=self.bytes_of(units[name], scheme),
                    damage=damage * scales.get(name, 1.0),
                    ms=self.times[name][scheme.name] if self.times else 0.0,
                )
                for scheme, damage in row
            ]
            for name, row in self.table.items()
        }

    @cached_property
    def fixed(self) -> int:
        """Bytes that no choice among the options changes."""
        options = (s for unit in self.units for s in schemes(self.plan.quantize, unit))
        return fixed_bytes(load_graph(self.graph_folder), self.units) + tables_bytes(options)

    @cached_property
    def room(self) -> int:
        """Bytes left for the units. Raises BudgetInfeasible, counted over the whole artifact."""
        budget = self.plan.budget_bytes(self.checkpoint.parameters)
        if budget is None:
            return _NO_LIMIT
        smallest = self.fixed + smallest_bytes(self.choices({}))
        if budget < smallest:
            raise BudgetInfeasible(
                f"the budget of {budget:,} bytes is below what is possible: with these options"
                f" the smallest artifact takes {smallest:,} bytes",
                budget_bytes=budget,
                smallest_bytes=smallest,
            )
        return budget - self.fixed

    def solve(self, scales: dict[str, float], room: int | None = None) -> dict[str, Scheme]:
        """The best scheme of each unit within the budget, or within other room."""
        by_name = {scheme.name: scheme for row in self.table.values() for scheme, _ in row}
        choices, room = self.choices(scales), self.room if room is None else room
        found = allocate(choices, room)
        if self.times:
            found = allocate(choices, room, ms_weight=exchange_rate(found))
        return {name: by_name[choice.option] for name, choice in found.items()}

    @cached_property
    def times(self) -> dict[str, dict[str, float]]:
        """Measured milliseconds of every option, where the objective is latency; else empty."""
        if self.plan.objective is not Objective.LATENCY:
            return {}
        units, level = {u.name: u for u in self.units}, self.plan.quantize.accuracy_level

        def make() -> dict[str, dict[str, float]]:
            self.clock.part("measure", 1.0, "timing products")
            return {
                name: {s.name: product_ms(units[name], s, accuracy_level=level) for s, _ in row}
                for name, row in self.table.items()
            }

        found: dict[str, dict[str, float]] = self.kept.document("06-times", make)
        return found

    @cached_property
    def allocation(self) -> dict[str, Scheme]:
        """The schemes; measured again with everything rounded where the plan says so."""

        def make() -> dict[str, list[object]]:
            self.clock.begin("allocate", "solving")
            best = self.solve({})
            rounds = self.plan.quantize.refine
            score = self._score(best) if rounds else 0.0
            scales: dict[str, float] = {}
            for _ in range(rounds):
                scales = self._in_context(best)
                other = self.solve(scales)
                if other == best:
                    break
                if (new := self._score(other)) < score:
                    best, score = other, new
            return {name: [s.bits, s.block, s.symmetric] for name, s in best.items()}

        kept = self.kept.document("07-allocation", make)
        return {
            name: Scheme(bits=bits, block=block, symmetric=symmetric)
            for name, (bits, block, symmetric) in kept.items()
        }

    def rounded_model(self, schemes_: dict[str, Scheme]) -> nn.Module:
        """A copy of the model with every unit rounded, without compensation."""
        return rounded_copy(self.model, self.units, schemes_, self.known)

    def _score(self, schemes_: dict[str, Scheme]) -> float:
        return self.judge.compare(self.rounded_model(schemes_)).kld_mean

    def _in_context(self, schemes_: dict[str, Scheme]) -> dict[str, float]:
        """How much more each unit costs among the others, rounded, than it does alone."""
        rounded = self.rounded_model(schemes_)
        judge = Judge(self.original, first_tokens(self.text.measured, ANCHOR_TOKENS))
        whole = judge.compare(rounded).kld_mean
        alone = {name: dict(row)[schemes_[name]] for name, row in self.table.items()}
        found = {}
        for number, unit in enumerate(self.units):
            self.clock.part("allocate", number / len(self.units), f"{unit.name} among the others")
            without = measured(rounded, unit, judge, weight_of(self.model, unit))
            ratio = (whole - without) / alone[unit.name] if alone[unit.name] > 0 else 1.0
            found[unit.name] = min(max(ratio, 0.25), 4.0)
        return found

    @cached_property
    def rounded(self) -> dict[str, Coded]:
        """Codes of every unit that is quantized."""

        def make() -> dict[str, Coded]:
            found = {}
            for number, unit in enumerate(self.units):
                self.clock.part("quantize", number / len(self.units), f"rounding {unit.name}")
                scheme, known = self.allocation[unit.name], self.known[unit.name]
                weight = weight_of(self.model, unit)
                if scheme.bits == UNQUANTIZED:
                    continue
                if self.plan.quantize.compensate and unit.multiplies:
                    found[unit.name] = compensated(weight, scheme, known.moments)
                else:
                    found[unit.name] = encode(weight, scheme, known.moments.diagonal())
            return found

        return self.kept.codes("08-codes", make)

    def coded_model(self, codes: dict[str, Coded]) -> nn.Module:
        """A copy of the model with the weights that codes stand for."""
        made = copy.deepcopy(self.model)
        for unit in self.units:
            if unit.name in codes:
                put_weight(made, unit, codes[unit.name].dense())
            else:
                put_weight(made, unit, weight_of(self.model, unit).half().float())
        return made

    @cached_property
    def codes(self) -> tuple[dict[str, Coded], PassRow]:
        """Codes after the repair, or those before where it did not help; and what it did."""
        options, before = self.plan.repair, self.rounded
        base = self.judge.compare(self.coded_model(before)).kld_mean
        if not options.steps or not self.text.trained or not before:
            return before, PassRow(name="repair", kld_mean=base, note="left out")

        def make() -> dict[str, Coded]:
            self.clock.begin("repair", "training scales and codes")
            coded = {unit: before[unit.name] for unit in self.units if unit.name in before}
            return repaired(
                self.model, self.original, coded,
                self.text.trained, options=options, seed=self.plan.seed, step_done=self.clock.step,
            )  # fmt: skip

        after = self.kept.codes("09-repair", make)
        score = self.judge.compare(self.coded_model(after)).kld_mean
        if score >= base:
            note = f"dropped: KL {score:.4g} after, {base:.4g} before"
            return before, PassRow(name="repair", kld_mean=base, kept=False, note=note)
        return after, PassRow(name="repair", kld_mean=score)

    @cached_property
    def artifact(self) -> Path:
        """All passes in their order, then the artifact with its report, but for its speed."""
        if self.plan.prune.active:
            check_prunable(self.original)
        else:
            _ = self.graph_folder  # an architecture the builder does not know shows in seconds
        for name in ("text", "smaller", "graph_folder", "known", "table", "allocation"):
            getattr(self, name)
        codes, _ = self.codes

        def make(folder: Path) -> None:
            self.clock.begin("export", "writing and checking the artifact")
            graph = load_graph(self.graph_folder)
            stored = {unit.name: codes.get(unit.name) for unit in self.units}
            arrays = {
                unit.name: stored[unit.name] or half(weight_of(self.model, unit))
                for unit in self.units
            }
            write_graph(
                graph, self.units, arrays, folder,
                accuracy_level=self.plan.quantize.accuracy_level,
            )  # fmt: skip
            shutil.copyfile(self.graph_folder / CONFIG_FILE, folder / CONFIG_FILE)
            for name in tokenizer_files(self.source):
                shutil.copyfile(self.source / name, folder / name)
            write_report(make_report(self, folder), folder / REPORT_FILE)

        return self.kept.folder("artifact", make)

    def built(self) -> Built:
        """The artifact with its whole report."""
        report = with_speed(self.artifact, original_graph(self))
        self.clock.finish()
        return Built(artifact=self.artifact, report=report)
