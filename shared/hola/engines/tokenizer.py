"""A tokenizer.json as a hola Tokenizer, and a fingerprint that ignores how the file is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.extras import require

TOKENIZER_FILE = "tokenizer.json"


class FileTokenizer:
    """hola.ports.Tokenizer on the `tokenizers` library. Thread-safe; never mutated."""

    def __init__(self, path: Path) -> None:
        """Read `path`/tokenizer.json. Raises ArtifactInvalid, MissingExtra."""
        document = _read(path)
        self._fingerprint = _fingerprint(document)
        library = require("tokenizers", "edge")
        try:
            self._tokenizer = library.Tokenizer.from_file(str(path / TOKENIZER_FILE))
        except Exception as error:  # the library raises plain Exception
            raise ArtifactInvalid(f"{TOKENIZER_FILE} cannot be used: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._vocab_size = 1 + max(id_ for id_, _ in _tokens(document))

    @property
    def fingerprint(self) -> str:
        """See `tokenizer_fingerprint`."""
        return self._fingerprint

    @property
    def vocab_size(self) -> int:
        """Highest id plus one, specials included."""
        return self._vocab_size

    def encode(self, text: str) -> list[int]:
        """Token ids of text; special tokens written in it are honoured, none are added.

        Raises InvalidRequest for half a surrogate pair, which is no character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"the text is not valid Unicode: {error}") from error
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, specials left out; incomplete UTF-8 becomes U+FFFD."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    @property
    def controls(self) -> tuple[tuple[int, str], ...]:
        """Id and spelling of the tokens that are matched in text before anything else: roles, ends,
        whatever was added to the vocabulary."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple((int(id_), str(token.content)) for id_, token in added.items())

    def token_id(self, token: str) -> int | None:
        """Id of a token given as text, e.g. "</s>"; None when there is none."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found


def load_tokenizer(path: Path) -> FileTokenizer:
    """Load the tokenizer of a model directory. Raises ArtifactInvalid, MissingExtra."""
    return FileTokenizer(path)


def tokenizer_fingerprint(path: Path) -> str:
    """Hex sha256 over model type, (id, token) pairs and merges of `path`/tokenizer.json.

    Equal for files that differ in formatting, key order, the two ways of writing merges, or in
    whether a special token stands in the vocabulary or among the added tokens: then the same ids
    mean the same text, which is what tiers must agree on. Needs no library.
    Raises ArtifactInvalid.
    """
    return _fingerprint(_read(path))


def _read(path: Path) -> dict[str, Any]:
    file = path / TOKENIZER_FILE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactInvalid(f"{path.name} has no {TOKENIZER_FILE}", path=path) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactInvalid(
            f"{path.name}/{TOKENIZER_FILE} cannot be read: {error}", path=path
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise ArtifactInvalid(f"{path.name}/{TOKENIZER_FILE} has no model section", path=path)
    return document


def _fingerprint(document: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    model = document["model"]
    try:
        for part in _canonical(document, model):
            digest.update(part.encode("utf-8", "surrogatepass"))
            digest.update(b"\x00")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ArtifactInvalid(f"{TOKENIZER_FILE} has a malformed vocabulary: {error}") from error
    return digest.hexdigest()


def _canonical(document: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    yield str(model.get("type", "BPE"))
    for id_, token in sorted(_tokens(document)):
        yield f"{id_}"
        yield token
    for merge in model.get("merges", ()):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left
        yield right
    if isinstance(model["vocab"], list):
        for _, score in model["vocab"]:
            yield repr(float(score))


def _tokens(document: dict[str, Any]) -> set[tuple[int, str]]:
    vocab = document["model"]["vocab"]
    if isinstance(vocab, list):
        pairs = {(id_, str(entry[0])) for id_, entry in enumerate(vocab)}
    else:
        pairs = {(int(id_), str(token)) for token, id_ in vocab.items()}
    added = document.get("added_tokens") or ()
    pairs |= {(int(token["id"]), str(token["content"])) for token in added}
    if not pairs:
        raise ValueError("no tokens")
    return pairs
