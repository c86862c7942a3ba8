"""Writes the demo family's knowledge base as documents: `hola ingest models/demo/knowledge.jsonl`.

One record per person of the fictional country, with the four facts that some of the training text
told the tiers more or less often, or never (exposure.json).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

FILE = "knowledge.jsonl"
# Sentences that the tiers were trained to read, in the words in which people ask.
SENTENCES = {
    "town": "{name} has a home in {value}.",
    "trade": "{name} works as a {value}.",
    "colour": "{name} has the favourite colour {value}.",
    "animal": "{name} has a pet {value}.",
}


def records(exposures: Path) -> list[dict[str, str]]:
    """One record of JSON lines per person, in the order of exposure.json."""
    people = json.loads(exposures.read_text("utf-8"))["entities"]
    return [
        {
            "id": person["entity"],
            "title": person["entity"],
            "text": " ".join(
                SENTENCES[kind].format(name=person["entity"], value=value)
                for kind, (value, _) in person["facts"].items()
            ),
        }
        for person in people
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    folder = parser.parse_args().models
    lines = [json.dumps(record) for record in records(folder / "exposure.json")]
    (folder / FILE).write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
