"""The front as a picture: bytes against KL of Lo-Bi's artifacts and their peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hola.errors import InvalidRequest
from hola.extras import require

_FAMILIES = (
    ("llama.cpp", "+imatrix", "llama.cpp with imatrix", "#22aa77", "s"),
    ("llama.cpp", "", "llama.cpp", "#88ccaa", "s"),
    ("ORT", "", "onnxruntime's quantizers", "#dd7733", "^"),
    ("GPTQ", "", "GPTQModel", "#aa55aa", "v"),
)
_LOBI = "#3366aa"
_SIZE, _DPI = (8.5, 5.2), 110


def draw(
    lobi: Sequence[dict[str, Any]], peers: Sequence[dict[str, Any]], file: Path, title: str
) -> None:
    """Write a PNG of the rows that the benchmark prints: "bpw", "own_kld" and "artifact" of each.

    Raises MissingExtra, InvalidRequest (the file cannot be written).
    """
    require("matplotlib", "compress")
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes: Any = figure.subplots()
    ours = sorted(lobi, key=lambda row: row["bpw"])
    axes.plot([row["bpw"] for row in ours], [row["own_kld"] for row in ours], "o-", color=_LOBI,
              label="Lo-Bi", zorder=3)  # fmt: skip
    left = list(peers)
    for start, end, label, colour, marker in _FAMILIES:
        rows = [
            row
            for row in left
            if row["artifact"].startswith(start) and row["artifact"].endswith(end)
        ]
        left = [row for row in left if row not in rows]
        axes.plot([row["bpw"] for row in rows], [row["own_kld"] for row in rows], marker,
                  color=colour, label=label)  # fmt: skip
        for row in rows:
            name = row["artifact"].removeprefix(start).removesuffix("+imatrix").strip()
            axes.annotate(name, (row["bpw"], row["own_kld"]), fontsize=7, xytext=(4, 3),
                          textcoords="offset points", color="#555555")  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("bits per weight of all bytes, embedding and scales included")
    axes.set_ylabel("KL to the original, nats per token")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    try:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be written: {error}", field="picture") from error
