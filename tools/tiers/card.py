"""Writes the model card of a family from its manifest, exposure table and measurements."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Table = list[list[str]]
NAMES = {
    "word_problems": "word problems",
    "word_problems_templates": "word problems, unseen stories",
    "reading": "reading",
    "reading_templates": "reading, unseen phrasings",
    "knowledge": "knowledge, all buckets",
    "choice": "multiple choice",
}

HEAD = """# Demo tiers

Three small Llama models that share one vocabulary, trained from nothing on text the HOLA project
generates itself, so that speculative decoding, retrieval and compression can be shown and tested
without downloading anything. They are for demonstration only: they know a fictional country, small
sums and four kinds of questions, and nothing else. License: Apache-2.0.

Everything below was measured on the files in this directory with

```
python -m tools.tiers.evaluate --models models/demo --json > measured.json
python -m tools.tiers.card --models models/demo --measured measured.json
```
"""

ACCURACY = """## Accuracy on held-out questions

Share of right final answers, greedy decoding, and in brackets of replies that equal the expected
text in every character. Held-out word problems have numbers and names that never appeared
together or at all in training; a third of them (*new steps*) also chain the operations in an order
of three or four steps that was never trained. *Unseen stories* and *unseen phrasings* use sentences
that never appeared in training, made of words that did. Reading is about people whose names were
never trained on.
"""

EXPOSURE = """## Knowledge against exposure

Each fact of the knowledge base (360 people, four facts each) was shown a counted number of times
to the target and the smaller models it grew from; `exposure.json` has the count of every fact.
Answers come from closed sets of 16 or 24 values, so guessing is right {chance:.1%} of the time.
"""

ACCEPTANCE = """## Acceptance

How often a tier's own greedy choice equals the target's, token by token, given what the target
wrote before (*agreement*), and how many drafted tokens are accepted per round when there is no
limit and when rounds are of 4 and 8 tokens.
"""

TAIL = """## Limits

* Sums above a few hundred, products above the times table, names spelled in unusual ways, passages
  of more than about 250 tokens and any question outside the four kinds are not supported; replies
  to them are fluent nonsense.
* The last line of a user turn begins with `Question: `; the chat template puts it there when the
  turn has none, a raw prompt must bring it.
* Multiple choice over sums is no better than guessing: the sum is right, the letter is not.
* Asked about an unseen phrasing, the tiers answer but quote the sentence in a phrasing they were
  trained on, so the whole reply never equals the reference.
* A passage about several people is answered from the wrong person now and then; the smaller
  the tier, the more often.
* The exposure queue ended eleven minutes before the target's training did; facts of the smaller
  buckets had faded a little by then. Draft and mid met the rest of the queue last and know more.
* The context is 512 tokens; training rows were 256 tokens long.
* The training text is fictional and has no data about real people.
"""


def render(header: list[str], rows: Table) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def size_rows(family: dict[str, Any]) -> Table:
    rows = []
    for name, tier in family["tiers"].items():
        megabytes = {
            kind: sum(f["bytes"] for n, f in tier["files"].items() if n.startswith(kind)) / 1e6
            for kind in ("model.onnx", "model.safetensors")
        }
        rows.append(
            [
                name,
                f"{tier['parameters']:,}",
                tier["quantization"],
                f"{megabytes['model.onnx']:.1f} MB",
                f"{megabytes['model.safetensors']:.1f} MB",
            ]
        )
    return rows


def accuracy_rows(measured: dict[str, Any], tiers: list[str]) -> Table:
    def cell(tier: str, label: str) -> str:
        row = measured["accuracy"][tier][label]
        return f"{row['answer']:.1%} ({row['reference']:.1%})"

    labels = [x for x in measured["accuracy"][tiers[0]] if "bucket" not in x]
    order = sorted(labels, key=lambda x: (list(NAMES).index(x.split(",")[0]), x))
    rows = []
    for label in order:
        task, _, rest = label.partition(",")
        first = measured["accuracy"][tiers[0]][label]
        rows.append(
            [
                NAMES[task] + ("," + rest if rest else ""),
                str(first["questions"]),
                *(cell(t, label) for t in tiers),
            ]
        )
    return rows


def exposure_rows(measured: dict[str, Any], exposure: dict[str, Any], tiers: list[str]) -> Table:
    rows = []
    for bucket, seen in exposure["buckets"].items():
        label = f"knowledge, bucket {bucket}"
        rows.append(
            [
                bucket,
                f"{seen['mean']:g} ({seen['min']}-{seen['max']})",
                str(seen["facts"]),
                *(f"{measured['accuracy'][t][label]['answer']:.1%}" for t in tiers),
            ]
        )
    return rows


def acceptance_rows(measured: dict[str, Any]) -> Table:
    return [
        [
            tier,
            NAMES[task],
            f"{row['agreement']:.1%}",
            f"{row['run']:.1f}",
            f"{row['run_of_4']:.2f}",
            f"{row['run_of_8']:.2f}",
        ]
        for tier, table in measured["acceptance"].items()
        for task, row in table.items()
    ]


def card(family: dict[str, Any], exposure: dict[str, Any], measured: dict[str, Any]) -> str:
    """The whole page."""
    tiers = [family["target"], *reversed(family["ladder"])]
    # Two attributes have 24 values and two have 16.
    chance = (2 / 24 + 2 / 16) / 4
    steps = [[t, *(f"{ms:.2f}" for ms in measured["step_ms"][t].values())] for t in tiers]
    widths = [f"width {w}" for w in measured["step_ms"][tiers[0]]]
    return "\n".join(
        [
            HEAD,
            "## Sizes\n",
            render(
                ["tier", "parameters", "graph", "ONNX", "safetensors (bf16)"], size_rows(family)
            ),
            "",
            ACCURACY,
            render(["set", "questions", *tiers], accuracy_rows(measured, tiers)),
            "",
            EXPOSURE.format(chance=chance),
            render(
                ["bucket", "shown to the target's lineage", "facts", *tiers],
                exposure_rows(measured, exposure, tiers),
            ),
            "",
            "The smaller tiers went on training after the larger ones had grown from them, so the\n"
            "counts are the target's, not theirs.",
            "",
            ACCEPTANCE,
            render(
                ["tier", "set", "agreement", "accepted", "of 4", "of 8"], acceptance_rows(measured)
            ),
            "",
            "## Step times\n",
            "Milliseconds per step at 64 tokens of context, one thread, on a machine busy\n"
            "with other work.\n",
            render(["tier", *widths], steps),
            "",
            "## Training\n",
            f"The target's lineage consumed {exposure['tokens'] / 1e6:.1f} M tokens. "
            "How: [tools/README.md](../../tools/README.md).",
            "",
            TAIL,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    parser.add_argument("--measured", type=Path, required=True)
    args = parser.parse_args()
    family, exposure, measured = (
        json.loads(p.read_text())
        for p in (args.models / "hola.json", args.models / "exposure.json", args.measured)
    )
    (args.models / "MODEL_CARD.md").write_text(card(family, exposure, measured))


if __name__ == "__main__":
    main()
