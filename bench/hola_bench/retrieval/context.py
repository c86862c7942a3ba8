"""How much of the passages context selection removes, and how much of what matters it keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.retrieval.context.fit import fit_scorer
from hola.retrieval.context.lexical import plain
from hola.retrieval.context.scorer import Scorer, default_scorer
from hola.retrieval.context.select import SelectOptions, select_context
from hola.retrieval.context.signals import SIGNALS
from hola.retrieval.context.types import Context
from hola.retrieval.ports import Embedder
from hola_bench.report import Number, rounded, spread
from hola_bench.retrieval.context_rows import ContextRow

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int], None]
# The budget of the headline, as a share of what the passages would take.
BUDGET_SHARE = 0.4
SHARES = (0.2, 0.3, 0.4, 0.5)
TOP_KS = (1, 2, 3, 4)
# Questions of each half whose sentences are encoded: one sentence takes about 10 ms.
DENSE_SAMPLE = 60
# Signals by what they look at, for the ablation.
KINDS = {
    "question's words": r"words.*|passage_words|bm25",
    "links between passages": r"names.*|named_by",
    "bridge names": r"bridge.*",
    "title": r"title.*",
    "position and length": r"first|position|length|sentences",
    "rank": r"rank",
    "numbers": r"year|number",
}
_TOKEN = re.compile(r"\w+|[^\w\s]")


def count_tokens(text: str) -> int:
    """Words and marks: a count that hangs on no model."""
    return len(_TOKEN.findall(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a way of choosing kept of a question: sentences, and tokens of the tokens offered."""

    sentences: Bools
    tokens: int
    offered: int
    ms: float = 0.0


Choose = Callable[[ContextRow], _Kept]


def measure_context(
    sets: Mapping[str, Sequence[ContextRow]], *, progress: Progress = lambda done: None
) -> tuple[dict[str, Number], dict[str, Any]]:
    """Headline values and details, on the questions that the shipped weights were not fitted on."""
    every = [row for rows in sets.values() for row in rows]
    asked = [row for row in every if not row.fitted] or every
    found = [_timed(_selected, row, progress) for row in asked]
    headline = _figures(asked, found)
    return {
        "support_recall": headline["support_recall"],
        "tokens_removed": headline["tokens_removed"],
    }, {
        "context_questions": len(asked),
        "context_fitted_on": len(every) - len(asked),
        "context_budget_share": BUDGET_SHARE,
        "context_ms": spread([kept.ms for kept in found]),
        "context_per_set": list(_per_set(sets)),
        "context_systems": list(_systems(asked)),
        "context_ablation": list(_ablation(every, asked)),
    }


def measure_dense(rows: Sequence[ContextRow], cosines: Sequence[Array]) -> list[dict[str, Any]]:
    """Sentence cosines, alone and as one signal more, on a sample of both halves."""
    fitted = [at for at, row in enumerate(rows) if row.fitted]
    asked = [at for at, row in enumerate(rows) if not row.fitted]
    by_qid = {row.qid: cosines[at] for at, row in enumerate(rows)}
    names = list(default_scorer().weights)
    systems: dict[str, Choose] = {"cosine of the sentence": _by(lambda row: by_qid[row.qid])}
    for name, more in (("signals, refitted", []), ("signals and cosine", _COSINES)):
        scorer = fit_scorer(
            np.concatenate([rows[at].signals(cosines[at].tolist()) for at in fitted]),
            np.concatenate([rows[at].needed for at in fitted]).astype(np.float64),
            [*names, *more],
        )
        held = {rows[at].qid: rows[at].signals(cosines[at].tolist()) for at in asked}
        systems[name] = _by(partial(_score, scorer, held))
    sample = [rows[at] for at in asked]
    return [
        {"system": name, "questions": len(sample), **_figures(sample, list(map(choose, sample)))}
        for name, choose in systems.items()
    ]


_COSINES = [name for name in SIGNALS if name.startswith("cosine")]


def dense_sample(sets: Mapping[str, Sequence[ContextRow]]) -> list[ContextRow]:
    """The first questions of each half, from all sets in turn."""
    mixed = [row for turn in zip(*sets.values(), strict=False) for row in turn]
    return [
        row
        for half in (True, False)
        for row in [row for row in mixed if row.fitted is half][:DENSE_SAMPLE]
    ]


async def sentence_cosines(embedder: Embedder, row: ContextRow) -> Array:
    """Cosine of the question with each sentence under its title."""
    question = (await embedder.embed([row.question], query=True))[0]
    texts = [
        f"{row.passages[sentence.rank].chunk.title}. {sentence.text.strip()}"
        for sentence in row.sentences
    ]
    return np.asarray(await embedder.embed(texts) @ question, np.float64)


def _timed(choose: Choose, row: ContextRow, progress: Progress) -> _Kept:
    progress(1)
    return choose(row)


def _selected(row: ContextRow, share: float | None = BUDGET_SHARE, **options: Any) -> _Kept:
    """As the product selects, within a share of what the passages take."""
    chosen = SelectOptions(**options)
    offered = _offered(row)
    budget = offered if share is None else int(share * offered)
    began = perf_counter()
    context = select_context(
        row.question, row.passages, count_tokens=count_tokens, budget_tokens=budget, options=chosen
    )
    ms = (perf_counter() - began) * 1e3
    return _Kept(
        sentences=_kept_sentences(row, context), tokens=context.tokens, offered=offered, ms=ms
    )


def _kept_sentences(row: ContextRow, context: Context) -> Bools:
    cut = {(item.rank, item.span.start) for item in context.cut}
    return np.array([(sentence.rank, sentence.span.start) not in cut for sentence in row.sentences])


def _offered(row: ContextRow) -> int:
    return sum(
        count_tokens(passage.chunk.title) + count_tokens(passage.chunk.text)
        for passage in row.passages
    )


def _by(score: Callable[[ContextRow], Array], share: float = BUDGET_SHARE) -> Choose:
    """Best sentences first while the budget lasts, titles counted."""

    def choose(row: ContextRow) -> _Kept:
        return _filled(row, np.argsort(-score(row), kind="stable").tolist(), share)

    return choose


def _filled(row: ContextRow, order: Sequence[int], share: float) -> _Kept:
    offered = _offered(row)
    left = int(share * offered)
    kept = np.zeros(len(row.sentences), np.bool_)
    opened: set[int] = set()
    for index in order:
        rank = row.sentences[index].rank
        title = 0 if rank in opened else count_tokens(row.passages[rank].chunk.title)
        cost = count_tokens(row.sentences[index].text) + title
        if cost <= left:
            left -= cost
            opened.add(rank)
            kept[index] = True
    return _Kept(sentences=kept, tokens=int(share * offered) - left, offered=offered)


def _top(k: int) -> Choose:
    """The first k passages, whole."""

    def choose(row: ContextRow) -> _Kept:
        tokens = sum(
            count_tokens(passage.chunk.title) + count_tokens(passage.chunk.text)
            for passage in row.passages[:k]
        )
        return _Kept(
            sentences=np.array([sentence.rank < k for sentence in row.sentences]),
            tokens=tokens,
            offered=_offered(row),
        )

    return choose


def _systems(rows: Sequence[ContextRow]) -> Iterator[dict[str, Any]]:
    """Other ways of choosing, and ours at other budgets."""
    words = SIGNALS.index("words")
    systems: dict[str, Choose] = {
        f"selection, {share:.0%} of the tokens": partial(_selected, share=share) for share in SHARES
    }
    systems |= {
        "selection, no budget": partial(_selected, share=None),
        "truncate, 40%": lambda row: _filled(row, range(len(row.sentences)), BUDGET_SHARE),
        "question's words in the sentence, 40%": _by(lambda row: row.signals()[:, words]),
        **{f"top {k} passages": _top(k) for k in TOP_KS},
    }
    for name, choose in systems.items():
        yield {"system": name, **_figures(rows, [choose(row) for row in rows])}


def _per_set(sets: Mapping[str, Sequence[ContextRow]]) -> Iterator[dict[str, Any]]:
    """Ours, by set and by half: those the weights were fitted on, and those they were not."""
    for name, rows in sets.items():
        for fitted in (False, True):
            half = [row for row in rows if row.fitted is fitted]
            if half:
                yield {
                    "set": name,
                    "weights fitted on": "yes" if fitted else "no",
                    "questions": len(half),
                    **_figures(half, [_selected(row) for row in half]),
                }


def _ablation(every: Sequence[ContextRow], asked: Sequence[ContextRow]) -> Iterator[dict[str, Any]]:
    """Without one kind of signals, refitted on the other half. None where there is no other."""
    fitted = [row for row in every if row.fitted]
    if not fitted or len(fitted) == len(every):
        return
    signals = np.concatenate([row.signals() for row in fitted])
    labels = np.concatenate([row.needed for row in fitted]).astype(np.float64)
    held = {row.qid: row.signals() for row in asked}
    for kind, pattern in {"nothing": "", **KINDS}.items():
        names = [
            name
            for name in default_scorer().weights
            if not any(re.fullmatch(pattern, part) for part in name.split("*"))
        ]
        scorer = fit_scorer(signals, labels, names)
        choose = _by(partial(_score, scorer, held))
        yield {"without": kind, **_figures(asked, [choose(row) for row in asked])}


def _score(scorer: Scorer, signals: Mapping[str, Array], row: ContextRow) -> Array:
    return scorer.score(signals[row.qid])


def _figures(rows: Sequence[ContextRow], kept: Sequence[_Kept]) -> dict[str, float]:
    """Shares: needed sentences kept, questions with all of them, supporting passages with any
    sentence kept, questions whose answer still stands somewhere, and mean share of tokens removed.
    """
    needed = sum(int(row.needed.sum()) for row in rows)
    found = sum(
        int((row.needed & one.sentences).sum()) for row, one in zip(rows, kept, strict=True)
    )
    complete = [
        bool((one.sentences | ~row.needed).all()) for row, one in zip(rows, kept, strict=True)
    ]
    answers = [
        after for row, one in zip(rows, kept, strict=True) for after in _answers(row, one.sentences)
    ]
    passages = [
        kept_any
        for row, one in zip(rows, kept, strict=True)
        for kept_any in _supporting_kept(row, one.sentences)
    ]
    return {
        "support_recall": rounded(found / needed),
        "all_support": rounded(float(np.mean(complete))),
        "passage_recall": rounded(float(np.mean(passages))),
        "answer_recall": rounded(float(np.mean(answers))) if answers else 1.0,
        "tokens_removed": rounded(float(np.mean([1 - one.tokens / one.offered for one in kept]))),
    }


def _answers(row: ContextRow, kept: Bools) -> Iterator[bool]:
    """Whether an answer stands in what is kept, once, where it stood in a supporting passage."""
    holding = np.array(
        [
            any(answer in plain(sentence.words) for answer in row.answers)
            for sentence in row.sentences
        ]
    )
    inside = np.array([row.supporting[sentence.rank] for sentence in row.sentences])
    if (holding & inside).any():
        yield bool((holding & kept).any())


def _supporting_kept(row: ContextRow, kept: Bools) -> Iterator[bool]:
    ranks = {
        sentence.rank for sentence, is_kept in zip(row.sentences, kept, strict=True) if is_kept
    }
    for rank, supports in enumerate(row.supporting):
        if supports:
            yield rank in ranks
