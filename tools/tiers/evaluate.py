"""Measures exported tiers: accuracy per task and bucket, and acceptance against the target."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.tiers import heldout, tokenizer as vocabulary
from tools.tiers.decode import Engine, prompt_ids

SETS = (
    "word_problems",
    "word_problems_templates",
    "reading",
    "reading_templates",
    "knowledge",
    "choice",
)
LIMIT = 160
ANSWER = re.compile(r"The answer is ([^.]*)\.")
SPLITS = {"bucket": "bucket", "people": "people", "over": "over"}


@dataclass
class Run:
    """One held-out question answered by the target."""

    item: heldout.Item
    prompt: list[int]
    tokens: list[int]
    text: str

    @property
    def right(self) -> bool:
        found = ANSWER.findall(self.text)
        return bool(found) and found[-1] == self.item["answer"]

    @property
    def exact(self) -> bool:
        return self.text == self.item["reference"]


def labels(item: heldout.Item) -> Iterator[str]:
    """The tables a question counts in."""
    task, meta = str(item["task"]), item["meta"]
    assert isinstance(meta, dict)
    yield task
    if "new_plan" in meta:
        yield f"{task}, {'new' if meta['new_plan'] else 'known'} steps"
    for key, label in SPLITS.items():
        if key in meta:
            yield f"{task}, {label} {meta[key]}"


def answer(engine: Engine, folder: Path, items: list[heldout.Item]) -> list[Run]:
    """Let a tier answer every question."""
    tokenizer = vocabulary.load(folder)
    runs = []
    for item in items:
        prompt = prompt_ids(tokenizer, str(item["prompt"]))
        tokens = engine.greedy(prompt, LIMIT)
        text = tokenizer.decode([t for t in tokens if t != vocabulary.EOS_ID])
        runs.append(Run(item, prompt, tokens, text))
    return runs


def accuracy(runs: list[Run]) -> dict[str, dict[str, float]]:
    """Share of right answers and of exactly reproduced references."""
    tables: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        for label in labels(run.item):
            tables[label].append(run)
    return {
        label: {
            "questions": len(part),
            "answer": round(sum(r.right for r in part) / len(part), 4),
            "reference": round(sum(r.exact for r in part) / len(part), 4),
        }
        for label, part in tables.items()
    }


def accepted(agree: list[bool], block: int) -> tuple[int, int]:
    """Accepted draft tokens and rounds when blocks of this length are checked."""
    position = total = rounds = 0
    while position < len(agree):
        run = 0
        while run < block and position + run < len(agree) and agree[position + run]:
            run += 1
        total, rounds, position = total + run, rounds + 1, position + run + 1
    return total, rounds


def acceptance(engine: Engine, runs: list[Run]) -> dict[str, dict[str, float]]:
    """Agreement with the target's own greedy output, and mean accepted run, per task."""
    by_task: dict[str, list[list[bool]]] = defaultdict(list)
    for run in runs:
        guess = engine.forced(run.prompt, run.tokens)
        by_task[str(run.item["task"])].append(
            [g == t for g, t in zip(guess, run.tokens, strict=True)]
        )
    result = {}
    for task, rows in by_task.items():
        row: dict[str, float] = {"agreement": round(sum(map(sum, rows)) / sum(map(len, rows)), 4)}
        for name, block in (("run", LIMIT), ("run_of_4", 4), ("run_of_8", 8)):
            totals = [accepted(r, block) for r in rows]
            row[name] = round(sum(t for t, _ in totals) / sum(n for _, n in totals), 2)
        result[task] = row
    return result


def step_times(engine: Engine, widths: tuple[int, ...] = (2, 4, 8)) -> dict[str, float]:
    """Median milliseconds per step at 64 tokens of context."""
    engine.run(list(range(5, 69)), 0)
    result = {}
    for width in widths:
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            engine.run(list(range(5, 5 + width)), 64)
            times.append(time.perf_counter() - begun)
        result[str(width)] = round(sorted(times)[len(times) // 2] * 1000, 3)
    return result


def evaluate(models: Path, limit: int, threads: int) -> dict[str, object]:
    """Everything, for one family directory."""
    family = json.loads((models / "hola.json").read_text())
    folders = {name: models / tier["path"] for name, tier in family["tiers"].items()}
    engines = {name: Engine(folder, threads) for name, folder in folders.items()}
    items = []
    for name in SETS:
        part = heldout.load(models / "heldout", name)
        items += part[:: max(1, len(part) // limit)] if limit else part
    target = family["target"]
    runs = answer(engines[target], folders[target], items)
    scores = {target: accuracy(runs)}
    for name in family["ladder"]:
        scores[name] = accuracy(answer(engines[name], folders[name], items))
    return {
        "accuracy": scores,
        "acceptance": {name: acceptance(engines[name], runs) for name in family["ladder"]},
        "step_ms": {name: step_times(engine) for name, engine in engines.items()},
    }


def show(result: dict) -> None:
    """Print the tables for people."""
    for tier, table in result["accuracy"].items():
        for label, row in table.items():
            print(
                f"{tier:8s} {label:44s} answer {row['answer']:.3f} "
                f"reference {row['reference']:.3f} of {row['questions']}"
            )
    for tier, table in result["acceptance"].items():
        for task, row in table.items():
            print(f"{tier:8s} {task:44s} " + " ".join(f"{k} {v}" for k, v in row.items()))
    print("step ms", json.dumps(result["step_ms"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    parser.add_argument("--limit", type=int, default=0, help="about this many per set (0: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = evaluate(args.models, args.limit, args.threads)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
