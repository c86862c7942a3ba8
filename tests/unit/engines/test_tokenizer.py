"""The tokenizer's fingerprint sees what changes ids, and nothing else; decoding round-trips."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.engines.tokenizer import load_tokenizer, tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest
from tests.support.tiny_models import write_tokenizer

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


def edited(folder: Path, edit: Edit) -> str:
    """Fingerprint after `edit` changed the parsed file in place."""
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document, indent=3, sort_keys=True, ensure_ascii=True))
    return tokenizer_fingerprint(folder)


def merges_as_text(document: dict[str, Any]) -> None:
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]


def reversed_vocab(document: dict[str, Any]) -> None:
    model = document["model"]
    model["vocab"] = dict(reversed(model["vocab"].items()))


def specials_only_added(document: dict[str, Any]) -> None:
    for token in document["added_tokens"]:
        del document["model"]["vocab"][token["content"]]


def other_padding(document: dict[str, Any]) -> None:
    document["truncation"] = {"max_length": 5}


@pytest.mark.parametrize(
    "edit", [merges_as_text, reversed_vocab, specials_only_added, other_padding]
)
def test_same_ids_same_fingerprint(folder: Path, edit: Edit) -> None:
    before = tokenizer_fingerprint(folder)
    assert edited(folder, edit) == before


def swapped_ids(document: dict[str, Any]) -> None:
    vocab = document["model"]["vocab"]
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]


def swapped_merges(document: dict[str, Any]) -> None:
    merges = document["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def one_more_special(document: dict[str, Any]) -> None:
    document["added_tokens"].append({"id": 9999, "content": "<new>", "special": True})


def other_model(document: dict[str, Any]) -> None:
    document["model"]["type"] = "WordPiece"


@pytest.mark.parametrize("edit", [swapped_ids, swapped_merges, one_more_special, other_model])
def test_other_ids_other_fingerprint(folder: Path, edit: Edit) -> None:
    before = tokenizer_fingerprint(folder)
    assert edited(folder, edit) != before


def test_scored_vocabulary_counts_scores(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    vocab = [["a", -1.0], ["b", -2.5]]
    file.write_text(json.dumps({"model": {"type": "Unigram", "vocab": vocab}}))
    before = tokenizer_fingerprint(tmp_path)
    vocab[1][1] = -2.0
    file.write_text(json.dumps({"model": {"type": "Unigram", "vocab": vocab}}))
    assert tokenizer_fingerprint(tmp_path) != before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"model": 3}',
        '{"model": {}}',
        '{"model": {"vocab": {}}}',
        '{"model": {"vocab": {"a": "x"}}}',
        '{"model": {"vocab": [1, 2]}}',
        '{"model": {"vocab": {"a": 0}, "merges": ["too many parts"]}}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}',
        "[" * 100_000,
    ],
)
def test_garbage_is_a_typed_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ArtifactInvalid):
        tokenizer_fingerprint(tmp_path)
    with pytest.raises(ArtifactInvalid):
        load_tokenizer(tmp_path)


def test_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(bytes(range(256)))
    with pytest.raises(ArtifactInvalid):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "Hello, world", "naïve café 😀", "tabs\tand\nlines  "])
def test_text_survives(folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(folder)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert all(0 <= token < tokenizer.vocab_size for token in tokens)


def test_specials_are_honoured_and_left_out(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokens = tokenizer.encode("<s>Hi</s>")
    assert tokens[0] == tokenizer.token_id("<s>") == 1
    assert tokens[-1] == tokenizer.token_id("</s>") == 2
    assert tokenizer.decode(tokens) == "Hi"
    assert tokenizer.token_id("<nothing>") is None


def test_half_a_surrogate_pair_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="Unicode"):
        load_tokenizer(folder).encode("a\ud800b")


def test_half_a_character_becomes_a_replacement(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert "�" in tokenizer.decode(tokenizer.encode("😀")[:2])
