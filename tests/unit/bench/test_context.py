"""Context selection measured on a small generated set: what counts as needed, and bad files."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from hola.errors import ArtifactInvalid
from hola_bench.retrieval import Options, run
from hola_bench.retrieval.context import measure_dense
from hola_bench.retrieval.context_rows import read_context_rows

TOWNS = ["Graz", "Bergen", "Turku", "Porto", "Gdansk", "Leuven"]
NAMES = ["Ilse Brandt", "Otto Falk", "Runa Lie", "Piet Maas", "Ana Reis", "Jan Zycki", "Eero Aho"]


def question(number: int) -> dict:
    rng = random.Random(number)
    child, parent, *others = rng.sample(NAMES, len(NAMES))
    town = rng.choice(TOWNS)
    paragraphs = [
        paragraph(
            child, f"is a potter. The glazes are blue. {parent} is the father of {child}.", 1
        ),
        paragraph(parent, f"was a miller. The mill stood by a river. He died in {town}.", 1),
        *(
            paragraph(name, "sang in a choir. Critics liked it. It rained often.", 0)
            for name in others
        ),
    ]
    rng.shuffle(paragraphs)
    return {
        "qid": f"q{number}",
        "question": f"Where did the father of {child} die?",
        "refs": [town],
        "paragraphs": paragraphs,
    }


def paragraph(title: str, rest: str, supporting: int) -> dict:
    return {"title": title, "text": f"{title} {rest}", "supporting": bool(supporting)}


@pytest.fixture
def folder(tmp_path) -> Path:
    with gzip.open(tmp_path / "ctx.made.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(question(number)) + "\n" for number in range(24))
    return tmp_path


def test_needed_are_the_answer_and_the_link_to_it(folder):
    for row in read_context_rows(folder / "ctx.made.jsonl.gz"):
        needed = [
            sentence.text.strip()
            for sentence, is_needed in zip(row.sentences, row.needed, strict=True)
            if is_needed
        ]
        assert len(needed) == 2
        assert any("is the father of" in text for text in needed)
        assert any("He died in" in text for text in needed)


def test_the_first_sentence_is_needed_where_nothing_tells_which(tmp_path):
    row = question(0)
    for item in row["paragraphs"]:
        item["supporting"] = item["title"] == row["paragraphs"][0]["title"]
    row["refs"] = ["yes"]
    (tmp_path / "ctx.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_context_rows(tmp_path / "ctx.jsonl")
    assert [read.sentences[i].number for i in np.flatnonzero(read.needed)] == [0]


def test_headline_and_tables(folder):
    report = run(Options(data=(str(folder),), models_dir=str(folder)))
    assert list(report.headline) == ["support_recall", "tokens_removed"]
    assert report.headline["support_recall"] > 0.8
    assert report.headline["tokens_removed"] >= 0.6
    details = report.details
    assert 0 < details["context_questions"] < 24
    assert details["context_questions"] + details["context_fitted_on"] == 24
    systems = {row["system"]: row for row in details["context_systems"]}
    assert systems["top 1 passages"]["support_recall"] < report.headline["support_recall"]
    assert {row["without"] for row in details["context_ablation"]} >= {"nothing", "rank"}
    assert details["context_dense"] == "no embedder: not measured"
    json.dumps(report.as_json(), allow_nan=False)


def test_cosines_are_a_system_and_a_signal(folder):
    rows = read_context_rows(folder / "ctx.made.jsonl.gz")
    told = [row.needed.astype(np.float64) + 0.1 for row in rows]
    table = {row["system"]: row for row in measure_dense(rows, told)}
    assert table["cosine of the sentence"]["support_recall"] == 1
    assert (
        table["signals and cosine"]["support_recall"]
        >= table["signals, refitted"]["support_recall"]
    )


def test_sets_are_found_in_a_parent_folder_and_by_file(folder, tmp_path):
    inside = tmp_path / "sets" / "one"
    inside.mkdir(parents=True)
    (inside / "ctx.jsonl").write_text("".join(json.dumps(question(n)) + "\n" for n in range(12)))
    for place in (tmp_path / "sets", inside, inside / "ctx.jsonl"):
        report = run(Options(data=(str(place),), models_dir=str(tmp_path)))
        assert report.details["context_questions"] <= 12
    both = run(Options(data=(str(inside), str(folder)), models_dir=str(tmp_path)))
    assert len(both.details["other_sets"]) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "[]",
        "{}",
        '{"qid": "a", "question": "b", "refs": [], "paragraphs": [1]}',
        '{"qid": "a", "question": "b", "refs": [], "paragraphs": []}',
    ],
)
def test_a_malformed_set_is_refused(tmp_path, line):
    (tmp_path / "ctx.dev.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactInvalid, match=r"ctx\.dev\.jsonl"):
        run(Options(data=(str(tmp_path),), models_dir=str(tmp_path)))


def test_a_file_that_is_no_gzip_is_refused(tmp_path):
    (tmp_path / "ctx.jsonl.gz").write_text("plain")
    with pytest.raises(ArtifactInvalid, match=r"ctx\.jsonl\.gz"):
        run(Options(data=(str(tmp_path),), models_dir=str(tmp_path)))
