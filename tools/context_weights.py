"""Fits the weights of context selection: on half of the questions of the sets that are named."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from hola.retrieval.context.fit import fit_scorer
from hola.retrieval.context.scorer import WEIGHTS_FILE
from hola.retrieval.context.signals import SIGNALS
from hola_bench.retrieval.context_rows import read_context_rows
from hola_bench.retrieval.sets import context_files

TARGET = Path("shared/hola/retrieval/context") / WEIGHTS_FILE
# The products that explained the fitted half best, one after the other.
PRODUCTS = (
    "title_asked*named_by",
    "names*rank",
    "bm25*named_by",
    "words_in_passage_best*titles_named",
    "first*names",
    "title_named*titles_named",
    "names*named_by",
    "names_asked*named_by",
    "title_named*named_by",
    "named_by*bridge_title",
)
NAMES = (*(name for name in SIGNALS if not name.startswith("cosine")), *PRODUCTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with ctx*.jsonl[.gz]")
    options = parser.parse_args()
    rows = [row for path in context_files(options.data) for row in read_context_rows(path)]
    fitted = [row for row in rows if row.fitted]
    signals = np.concatenate([row.signals() for row in fitted])
    labels = np.concatenate([row.needed for row in fitted]).astype(np.float64)
    scorer = fit_scorer(signals, labels, NAMES)
    TARGET.write_text(json.dumps(scorer.as_json(), indent=1) + "\n", "utf-8")
    print(f"{len(fitted)} of {len(rows)} questions, {len(labels)} sentences -> {TARGET}")


if __name__ == "__main__":
    main()
