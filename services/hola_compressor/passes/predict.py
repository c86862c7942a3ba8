"""What a job will need, from headers alone: refused before it has cost anything."""

from __future__ import annotations

import shutil
from pathlib import Path

from hola.compression.plan import BLOCKS, UNQUANTIZED, Objective, Plan, Prune
from hola.engines.memory import MemoryBudget
from hola.errors import BudgetInfeasible, NoDiskSpace
from hola_compressor.passes import Estimate
from hola_compressor.passes.codes import Scheme
from hola_compressor.passes.source import Checkpoint, open_checkpoint

# What a draft's candidates leave out before quantization, where the plan itself prunes nothing.
CANDIDATES = (
    Prune(),
    Prune(layers=0.45),
    Prune(layers=0.7),
    Prune(layers=0.7, ffn=0.5),
)
_FP32 = 4
_RUNTIME_BYTES = 400 * 2**20  # torch, transformers and onnxruntime themselves
_HEAD_BYTES = 4096  # nodes and names of the graph, at least
_MEASURED_TOKENS = 32_768


def estimate(plan: Plan, source: Path) -> Estimate:
    """See hola_compressor.passes.estimate."""
    return predicted(plan, open_checkpoint(source))


def predicted(plan: Plan, checkpoint: Checkpoint) -> Estimate:
    """Peak memory, disk and the smallest artifact, bytes.

    Memory: the original, the model at work and the graph's weights in fp32; with training, the
    activations of a batch and, per trained parameter, what Adam keeps; the original's logits.
    """
    weights = _FP32 * checkpoint.parameters
    training = plan.repair.steps > 0
    factor = 3 + (6 if training and plan.repair.codes else 2 if training else 0)
    config = checkpoint.config
    tokens = plan.repair.rows * plan.calibration.window
    layers = int(getattr(config, "num_hidden_layers", 1))
    hidden = int(getattr(config, "hidden_size", 1))
    batch = _FP32 * tokens * (3 * checkpoint.vocab_size + 24 * layers * hidden)
    logits = 2 * min(plan.calibration.tokens, _MEASURED_TOKENS) * checkpoint.vocab_size
    smallest = smallest_bytes(plan, checkpoint.parameters)
    disk = 3 * weights + (2 * weights if plan.prune.active else 0)
    return Estimate(
        memory_bytes=_RUNTIME_BYTES + factor * weights + (batch if training else 0) + logits,
        disk_bytes=disk,
        smallest_bytes=smallest,
    )


def smallest_bytes(plan: Plan, parameters: int) -> int:
    """A lower bound: every parameter left by pruning at the options' fewest bits."""
    options = plan.quantize
    widths = [width for width in options.bits if width != UNQUANTIZED]
    if not widths:
        return 2 * parameters
    block = max(options.blocks)
    scheme = Scheme(bits=min(widths), block=block, symmetric=options.symmetric)
    per_weight = scheme.disk_bytes(1024, max(BLOCKS) * 8) / (1024 * max(BLOCKS) * 8)
    tries = plan.objective is Objective.DRAFT and not plan.prune.active
    shapes = CANDIDATES if tries else (plan.prune,)
    cut = max(max(shape.ffn, shape.kv_heads, shape.layers) for shape in shapes)
    return int(parameters * (1 - cut) * per_weight) + _HEAD_BYTES


def check_room(plan: Plan, checkpoint: Checkpoint, work: Path) -> None:
    """Raises BudgetInfeasible, NoDiskSpace, MemoryBudgetExceeded with the numbers."""
    needs = predicted(plan, checkpoint)
    budget = plan.budget_bytes(checkpoint.parameters)
    if budget is not None and budget < needs.smallest_bytes:
        raise BudgetInfeasible(
            f"the budget of {budget:,} bytes is below what is possible: with these options the"
            f" smallest artifact takes at least {needs.smallest_bytes:,} bytes",
            budget_bytes=budget,
            smallest_bytes=needs.smallest_bytes,
        )
    there = next(folder for folder in (work, *work.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < needs.disk_bytes:
        raise NoDiskSpace(
            f"the job needs {needs.disk_bytes:,} bytes at {there}, {free:,} are free",
            needed_bytes=needs.disk_bytes,
            available_bytes=free,
            path=there,
        )
    MemoryBudget().reserve(needs.memory_bytes, f"compressing {checkpoint.folder.name}")
