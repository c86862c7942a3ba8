"""Calibration text as rows of tokens: read from a file, or written by the model itself."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hola.compression.plan import SELF_WRITTEN, Calibration
from hola.errors import CalibrationTooShort, DocumentInvalid
from hola.models.prompt import render_turns
from hola_compressor.passes.source import Checkpoint

Row = list[int]
_FEWEST = 512
_TOGETHER = 64
ROWS_AT_ONCE = 16  # rows that statistics and comparisons run together, at most
_LOGITS_AT_ONCE = 2**25  # 128 MiB in fp32
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """`measured` rows are never trained on; `trained` may be few. `sha256` is of all tokens."""

    measured: tuple[Row, ...]
    trained: tuple[Row, ...]
    sha256: str


def calibration_text(
    options: Calibration,
    checkpoint: Checkpoint,
    model: nn.Module,
    *,
    seed: int,
    written_share: Callable[[float], None],
) -> Text:
    """The plan's text, in an order set by `seed`. `written_share` hears how far the model wrote.

    Raises CalibrationTooShort (fewer than 512 tokens), DocumentInvalid.
    """
    wanted = options.tokens + options.train_tokens
    if options.source == SELF_WRITTEN:
        rows = []
        for more in written(model, checkpoint, window=options.window, seed=seed):
            rows += more
            total = sum(map(len, rows))
            written_share(min(total / wanted, 1.0))
            if total >= wanted:
                break
    else:
        rows = read_rows(Path(options.source), checkpoint, window=options.window)
        random.Random(seed).shuffle(rows)
    total = sum(map(len, rows))
    if total < _FEWEST:
        raise CalibrationTooShort(
            f"the calibration text has {total} tokens, at least {_FEWEST} are needed;"
            f" {10 * _FEWEST} or more measure better",
            needed_tokens=_FEWEST,
            got_tokens=total,
        )
    return split(rows, options)


def split(rows: Sequence[Row], options: Calibration) -> Text:
    """Rows up to `tokens` to measure on, at most half of what there is; the rest to train on."""
    half = sum(map(len, rows)) // 2 if options.train_tokens else sum(map(len, rows))
    measured, rest = _take(rows, min(options.tokens, half))
    trained, _ = _take(rest, options.train_tokens)
    digest = hashlib.sha256(json.dumps([measured, trained]).encode())
    return Text(measured=tuple(measured), trained=tuple(trained), sha256=digest.hexdigest())


def read_rows(file: Path, checkpoint: Checkpoint, *, window: int) -> list[Row]:
    """A file's documents as rows of at most `window` tokens, two at least."""
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise DocumentInvalid(f"{file.name} is larger than 1 GiB", source=file.name)
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentInvalid(f"{file} cannot be read as UTF-8: {error}") from error
    documents = _jsonl(file.name, text, checkpoint) if file.suffix == ".jsonl" else [text]
    rows: list[Row] = []
    for document in documents:
        ids = checkpoint.tokenizer.encode(document)
        first = checkpoint.first_token
        head = [] if first is None or ids[:1] == [first] else [first]
        step = window - len(head)
        rows += [[*head, *ids[at : at + step]] for at in range(0, len(ids), step)]
    return [row for row in rows if len(row) > 1]


def _jsonl(name: str, text: str, checkpoint: Checkpoint) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if "text" in entry:
                yield str(entry["text"])
                continue
            prompt, reply = str(entry["prompt"]), str(entry["reference"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DocumentInvalid(
                f"{name}, line {number}: needs an object with text, or prompt and reference",
                source=name,
            ) from error
        yield render_turns(checkpoint.folder, [("user", prompt), ("assistant", reply)])


def written(
    model: nn.Module, checkpoint: Checkpoint, *, window: int, seed: int
) -> Iterator[list[Row]]:
    """Texts without end, sampled at temperature 1 as LLM-QAT does (arXiv 2305.17888), some a time.

    They begin with the model's first token, or a random one where it has none.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        first = checkpoint.first_token
        if first is None:
            start = torch.randint(checkpoint.vocab_size, (_TOGETHER, 1), generator=generator)
        else:
            start = torch.full((_TOGETHER, 1), first)
        yield _sample(model, start, window, checkpoint.last_token, generator)


@torch.inference_mode()
def _sample(
    model: nn.Module, start: Tensor, window: int, last: int | None, generator: torch.Generator
) -> list[Row]:
    cache, step, whole = None, start, start
    ended = torch.zeros(len(start), dtype=torch.bool)
    while whole.shape[1] < window and not ended.all():
        answer = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        chances = answer.logits[:, -1].float().softmax(-1)
        step = torch.multinomial(chances, 1, generator=generator)
        whole = torch.cat((whole, step), 1)
        if last is not None:
            ended |= step[:, 0] == last
    return [_until(row, last) for row in whole.tolist()]


def _until(row: Row, last: int | None) -> Row:
    """Up to the first end behind the beginning, which may be the same token."""
    return row[: row.index(last, 1) + 1] if last is not None and last in row[1:] else row


def _take(rows: Sequence[Row], tokens: int) -> tuple[list[Row], list[Row]]:
    taken, total = 0, 0
    while taken < len(rows) and total < tokens:
        total += len(rows[taken])
        taken += 1
    return list(rows[:taken]), list(rows[taken:])


def vocabulary_of(model: Any) -> int:
    """How many logits it gives per token."""
    return int(model.config.vocab_size)


def rows_at_once(width: int, vocabulary: int, most: int) -> int:
    """How many rows of a width go through a model together: their logits take 128 MiB at most.

    One row does in any case.
    """
    return max(1, min(most, _LOGITS_AT_ONCE // (width * vocabulary)))


def batches(
    rows: Sequence[Row], vocabulary: int, most: int = ROWS_AT_ONCE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids [n, width] padded at the end, and where a next token is known [n, width - 1].

    Rows of like length go together. Padding stands behind what counts, so that a causal model
    needs no mask for it.
    """
    ordered = sorted(rows, key=len)
    size = rows_at_once(max(map(len, rows), default=1), vocabulary, most)
    for at in range(0, len(ordered), size):
        yield padded(ordered[at : at + size])


def filled(known: Tensor) -> Tensor:
    """Where a batch holds tokens of its rows and no padding [n, width], of its `known`."""
    return torch.cat((torch.ones(len(known), 1, dtype=torch.bool), known), 1)


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """One batch, as `batches` gives them."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(1, width)[None] < lengths[:, None]
