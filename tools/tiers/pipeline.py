"""The whole way from nothing to a family directory: vocabulary, three tiers, export."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from tools.tiers import export, grow, tokenizer as vocabulary, train

# The share of the exposure queue each stage of the target's lineage ends with.
KNOWLEDGE = {"draft": 0.10, "mid": 0.60, "target": 1.0}
GROWN = ("--muon-lr", "0.012", "--adam-lr", "0.003")


@dataclass(frozen=True)
class Budget:
    """Minutes for the stages, and the shapes they train."""

    draft: float
    mid: float
    target: float
    finish: float
    shapes: str = ""
    rows: int = 16
    text: int = 30_000
    heldout: float = 1.0
    compiled: bool = True


FULL = Budget(draft=15, mid=40, target=60, finish=8)
SMOKE = Budget(
    draft=0.03,
    mid=0.03,
    target=0.03,
    finish=0.02,
    shapes="smoke-",
    rows=2,
    text=600,
    heldout=0.02,
    compiled=False,
)


def stage(work: Path, budget: Budget, name: str, arguments: list[str]) -> Path:
    """Train one stage (or go on with it) and return its checkpoint."""
    out = work / f"{name}.pt"
    common = ["--tokenizer", str(work / "tokenizer"), "--out", str(out), "--rows", str(budget.rows)]
    train.main([*common, *arguments, *([] if budget.compiled else ["--no-compile"])])
    return out


def grown(work: Path, budget: Budget, begun: Path, tier: str) -> Path:
    """The start of the next larger tier."""
    out = work / f"{tier}-init.pt"
    if not out.exists():
        grow.main([str(begun), str(out), "--tier", budget.shapes + tier])
    return out


def finish(work: Path, budget: Budget, tier: str, begun: Path) -> Path:
    """Let a smaller tier settle; it may meet the whole knowledge base on this branch."""
    return stage(
        work,
        budget,
        f"{tier}-final",
        [
            "--start",
            str(begun),
            "--minutes",
            str(budget.finish),
            "--decay",
            "1",
            "--level",
            "3",
            "--knowledge-to",
            "1",
        ],
    )


def run(work: Path, out: Path, budget: Budget) -> None:
    """Everything; what is already there is taken up again."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer").exists():
        vocabulary.save(vocabulary.train(budget.text), work / "tokenizer")
    draft = stage(
        work,
        budget,
        "draft",
        [
            "--tier",
            budget.shapes + "draft",
            "--muon-lr",
            "0.02",
            "--minutes",
            str(budget.draft),
            "--knowledge-to",
            str(KNOWLEDGE["draft"]),
        ],
    )
    mid = stage(
        work,
        budget,
        "mid",
        [
            "--start",
            str(grown(work, budget, draft, "mid")),
            *GROWN,
            "--minutes",
            str(budget.mid),
            "--knowledge-to",
            str(KNOWLEDGE["mid"]),
        ],
    )
    target = stage(
        work,
        budget,
        "target",
        [
            "--start",
            str(grown(work, budget, mid, "target")),
            *GROWN,
            "--minutes",
            str(budget.target),
            "--decay",
            "0.65",
            "--knowledge-to",
            str(KNOWLEDGE["target"]),
        ],
    )
    checkpoints = {
        "draft": finish(work, budget, "draft", draft),
        "mid": finish(work, budget, "mid", mid),
        "target": target,
    }
    quantization = dict.fromkeys(checkpoints, "int8")
    export.write_family(checkpoints, quantization, work / "tokenizer", out, budget.heldout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="checkpoints, to go on from")
    parser.add_argument("--out", type=Path, required=True, help="family directory to write")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, about a minute")
    args = parser.parse_args(arguments)
    run(args.work, args.out, SMOKE if args.smoke else FULL)


if __name__ == "__main__":
    main()
