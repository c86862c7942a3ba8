"""A compression report as pictures, PNG: what a person looks at before trusting an artifact."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hola.compression.report import Report
from hola.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB = 2**20
BLUE, ORANGE, GREY = "#3366aa", "#dd7733", "#999999"
_DPI = 120
_MOST_LABELS = 24


def plots(report: Report) -> dict[str, bytes]:
    """Name to PNG, only of what the report has. Raises MissingExtra."""
    require("matplotlib", "compress")
    drawn = {
        "pareto": _pareto(report),
        "bits": _bits(report),
        "passes": _passes(report),
        "tasks": _tasks(report),
        "draft": _draft(report),
    }
    return {name: _png(figure) for name, figure in drawn.items() if figure is not None}


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # No time and no version in the file: equal reports give equal bytes.
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def _pareto(report: Report) -> Figure | None:
    """Bytes against KL and perplexity: this artifact among the points that were measured."""
    own = report.quality[0] if report.quality else None
    if own is None:
        return None
    figure, (left, right) = _figure(10, 3.8, 2)
    points = sorted(report.pareto, key=lambda point: point.bytes)
    sizes = [point.bytes / MIB for point in points]
    for axes, values, value, label in (
        (
            left,
            [point.kld_mean for point in points],
            own.kld_mean,
            "KL to the original, nats/token",
        ),
        (right, [point.perplexity for point in points], own.perplexity, "perplexity"),
    ):
        if points:
            axes.plot(sizes, values, "o-", color=GREY, label="measured on the way")
        for point, size, height in zip(points, sizes, values, strict=True):
            axes.annotate(point.name, (size, height), fontsize=7, xytext=(3, 4),
                          textcoords="offset points")  # fmt: skip
        axes.plot([report.bytes / MIB], [value], "*", ms=15, color=BLUE, label="this artifact")
        if report.budget_bytes:
            axes.axvline(report.budget_bytes / MIB, color=ORANGE, ls="--", label="budget")
        axes.set_xlabel("MiB on disk")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.margins(0.12)
        axes.set_xlim(left=0)
    if min([own.kld_mean, *(point.kld_mean for point in points)]) > 0:
        left.set_yscale("log")
    right.axhline(own.original_perplexity, color=GREY, ls=":", label="original")
    right.legend(fontsize=8)
    figure.suptitle("Size against damage")
    return figure


def _bits(report: Report) -> Figure | None:
    """Bits of every tensor: kinds as rows, layers as columns, what is outside layers last."""
    if not report.tensors:
        return None
    layers = sorted({row.layer for row in report.tensors}, key=lambda layer: (layer < 0, layer))
    kinds = list(dict.fromkeys(row.kind for row in report.tensors))
    grid = [[float("nan")] * len(layers) for _ in kinds]
    for row in report.tensors:
        grid[kinds.index(row.kind)][layers.index(row.layer)] = row.bits
    width = max(6.0, 2.5 + 0.42 * len(layers))
    figure, (axes,) = _figure(width, max(2.2, 1.2 + 0.4 * len(kinds)))
    shown = axes.imshow(grid, cmap="viridis", vmin=2, vmax=16, aspect="auto")
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    names = [str(layer) if layer >= 0 else "-" for layer in layers]
    axes.set_xticks(range(len(layers)), names, fontsize=8)
    axes.set_xlabel("layer (-: outside the layers)")
    if len(layers) <= _MOST_LABELS:
        for y, line in enumerate(grid):
            for x, bits in enumerate(line):
                if bits == bits:
                    colour = "white" if bits < 9 else "black"
                    axes.text(x, y, f"{bits:.0f}", ha="center", va="center", fontsize=8,
                              color=colour)  # fmt: skip
    figure.colorbar(shown, ax=axes, label="bits", ticks=[2, 4, 8, 16])
    figure.suptitle("Bits per tensor")
    return figure


def _passes(report: Report) -> Figure | None:
    """What each pass did to the KL on calibration text."""
    rows = [row for row in report.passes if row.kld_mean is not None]
    if not rows:
        return None
    figure, (axes,) = _figure(6.5, 3.2)
    colours = [BLUE if row.kept else GREY for row in rows]
    bars = axes.bar([row.name for row in rows], [row.kld_mean or 0 for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.3g", fontsize=8)
    axes.margins(y=0.12)
    axes.set_ylabel("KL, nats/token")
    figure.suptitle("After each pass (grey: dropped, since it did not help)")
    return figure


def _tasks(report: Report) -> Figure | None:
    """Accuracy on each task, before and after."""
    if not report.tasks:
        return None
    figure, (axes,) = _figure(max(5.0, 1.6 * len(report.tasks) + 2), 3.4)
    places = range(len(report.tasks))
    for shift, values, colour, label in (
        (-0.2, [row.before for row in report.tasks], GREY, "original"),
        (0.2, [row.after for row in report.tasks], BLUE, "compressed"),
    ):
        bars = axes.bar([place + shift for place in places], [100 * value for value in values],
                        0.38, color=colour, label=label)  # fmt: skip
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    names = [f"{row.task}\n({row.metric}, {row.questions})" for row in report.tasks]
    axes.set_xticks(list(places), names, fontsize=8)
    axes.margins(y=0.12)
    axes.set_ylabel("right answers, %")
    axes.legend(fontsize=8)
    figure.suptitle("Tasks before and after")
    return figure


def _draft(report: Report) -> Figure | None:
    """The artifact as a draft of its target."""
    row = report.draft
    if row is None:
        return None
    figure, (left, right) = _figure(6.5, 3.2, 2)
    share = left.bar(["accepted"], [100 * row.acceptance], color=BLUE)
    left.bar_label(share, fmt="%.0f %%", fontsize=8)
    left.set_ylim(0, 100)
    left.set_ylabel("draft tokens accepted, %")
    speeds = [row.plain_tokens_per_s, row.tokens_per_s]
    bars = right.bar(["target alone", "with this draft"], speeds, color=[GREY, BLUE])
    right.bar_label(bars, fmt="%.3g", fontsize=8)
    right.margins(y=0.12)
    right.set_ylabel("tokens/s")
    head = f", scoring {row.head_rows} tokens" if row.head_rows else ""
    figure.suptitle(f"As a draft of {row.target}, {row.draft_tokens} tokens a block{head}")
    return figure
