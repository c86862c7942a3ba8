"""What a job will need, from headers alone: refused before it has cost anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hola.compression.plan import BLOCKS, UNQUANTIZED, Objective, Plan, Prune
from hola.engines.memory import MemoryBudget
from hola.errors import BudgetInfeasible, InvalidRequest, NoDiskSpace
from hola_compressor.passes import Estimate
from hola_compressor.passes.codes import Scheme
from hola_compressor.passes.measure import ANCHOR_TOKENS, KEPT_BYTES, kept_bytes
from hola_compressor.passes.prune import sizes
from hola_compressor.passes.source import Checkpoint, open_checkpoint
from hola_compressor.passes.text import ROWS_AT_ONCE, rows_at_once
from hola_compressor.workdir import bytes_in

# What a draft's candidates leave out before quantization, where the plan itself prunes nothing.
CANDIDATES = (
    Prune(),
    Prune(layers=0.45),
    Prune(layers=0.7),
    Prune(layers=0.7, ffn=0.5),
)
_FP32 = 4
_LOGITS = 8  # tensors as large as a batch's logits that a step of training holds
_RUNTIME_BYTES = 500 * 2**20  # torch, transformers and onnxruntime themselves
_HEAD_BYTES = 4096  # nodes and names of the graph, at least
_FILES_BYTES = 32 * 2**20  # tokenizers and configurations, one with each checkpoint kept
_PRUNED = 2  # checkpoints that pruning leaves: cut, and recovered
# Per weight: the graph, codes before and after repair, and artifacts of one plan.
_PASSES = 3


def estimate(plan: Plan, source: Path) -> Estimate:
    """See hola_compressor.passes.estimate."""
    return predicted(plan, open_checkpoint(source))


def predicted(plan: Plan, checkpoint: Checkpoint) -> Estimate:
    """Peak memory, disk and the smallest artifact, bytes.

    Memory: the original, the model at work and the graph's weights in fp32; second moments of all
    inputs; the activations and logits of a batch; the original's logits on the text; with
    training, what Adam keeps per trained parameter.
    """
    weights, config, shapes = _FP32 * checkpoint.parameters, checkpoint.config, shapes_of(plan)
    moments = _moment_bytes(config)
    most = {shape: left(shape, checkpoint)[1] for shape in shapes}
    recovered = [most[shape] for shape in shapes if shape.active and plan.recover.steps]
    trained = plan.repair.steps > 0
    asked = max(
        ROWS_AT_ONCE,
        plan.repair.rows if trained else 0,
        plan.recover.rows if recovered else 0,
    )
    rows = rows_at_once(plan.calibration.window, checkpoint.vocab_size, asked)
    layers, hidden = _number(config, "num_hidden_layers"), _number(config, "hidden_size")
    batch = _FP32 * rows * plan.calibration.window
    batch *= _LOGITS * checkpoint.vocab_size + 24 * layers * hidden
    tokens, vocabulary = plan.calibration.tokens, checkpoint.vocab_size
    # For all of the text, if they may be, and for what a tensor's damage is measured on.
    logits = kept_bytes(tokens, vocabulary, KEPT_BYTES)
    logits += kept_bytes(min(tokens, ANCHOR_TOKENS), vocabulary)
    adam = 0 if plan.recover_rank else 3 * max(recovered, default=0) * weights  # with gradients
    factor = 3 + (6 if trained and plan.repair.codes else 2 if trained else 0)
    kept = sum(
        most[shape] * (_PASSES + _PRUNED * shape.active) * weights + moments + _FILES_BYTES
        for shape in shapes
    )
    original = weights if any(shape.active for shape in shapes) else 0  # its graph, to compare
    return Estimate(
        memory_bytes=_RUNTIME_BYTES + factor * weights + int(adam) + moments + batch + logits,
        disk_bytes=int(kept) + original,
        smallest_bytes=smallest_bytes(plan, checkpoint),
    )


def shapes_of(plan: Plan) -> tuple[Prune, ...]:
    """What is pruned, one after the other where a draft's shape is to be found."""
    tries = plan.objective is Objective.DRAFT and not plan.prune.active
    return CANDIDATES if tries else (plan.prune,)


def left(shape: Prune, checkpoint: Checkpoint) -> tuple[float, float]:
    """At least and at most what share of the parameters pruning leaves; embeddings stay whole."""
    if not shape.active:
        return 1.0, 1.0
    config = checkpoint.config
    names = ("intermediate_size", "num_key_value_heads", "num_hidden_layers")
    whole = [_number(config, name) for name in names]
    if not all(whole):
        return (1 - shape.layers) * (1 - max(shape.ffn, shape.kv_heads)), 1.0
    pairs = zip(sizes(config, shape), whole, strict=True)
    channels, groups, layers = (count / of for count, of in pairs)
    outside = 2 * checkpoint.vocab_size * _number(config, "hidden_size") / checkpoint.parameters
    return layers * min(channels, groups), min(1.0, layers * max(channels, groups) + outside)


def smallest_bytes(plan: Plan, checkpoint: Checkpoint) -> int:
    """A lower bound: every parameter left by pruning at the options' fewest bits."""
    options = plan.quantize
    widths = [width for width in options.bits if width != UNQUANTIZED]
    if not widths:
        return 2 * checkpoint.parameters
    block = max(options.blocks)
    scheme = Scheme(bits=min(widths), block=block, symmetric=options.symmetric)
    per_weight = scheme.disk_bytes(1024, max(BLOCKS) * 8) / (1024 * max(BLOCKS) * 8)
    share = min(left(shape, checkpoint)[0] for shape in shapes_of(plan))
    return int(checkpoint.parameters * share * per_weight) + _HEAD_BYTES


def _moment_bytes(config: Any) -> int:
    """Products of the inputs of every projection, [columns, columns] fp32."""
    hidden = _number(config, "hidden_size")
    wide = _number(config, "intermediate_size") or 4 * hidden
    return _FP32 * _number(config, "num_hidden_layers") * (6 * hidden**2 + wide**2)


def _number(config: Any, name: str) -> int:
    """A count of the configuration, 0 where its kind has no such word."""
    value = getattr(config, name, 0)
    return value if isinstance(value, int) else 0


def check_room(plan: Plan, checkpoint: Checkpoint, work: Path) -> None:
    """What a job in `work` still needs; passes that lie there already need no more room.

    Raises InvalidRequest (rows longer than the model reads), BudgetInfeasible, NoDiskSpace,
    MemoryBudgetExceeded with the numbers.
    """
    longest = _number(checkpoint.config, "max_position_embeddings")
    if 0 < longest < plan.calibration.window:
        raise InvalidRequest(
            f"calibration.window is {plan.calibration.window} tokens, the model reads {longest}",
            field="calibration.window",
        )
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
    needed = max(0, needs.disk_bytes - bytes_in(work))
    free = shutil.disk_usage(there).free
    if free < needed:
        raise NoDiskSpace(
            f"the job needs {needed:,} bytes at {there}, {free:,} are free",
            needed_bytes=needed,
            available_bytes=free,
            path=there,
        )
    MemoryBudget().reserve(needs.memory_bytes, f"compressing {checkpoint.folder.name}")
