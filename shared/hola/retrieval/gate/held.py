"""Signals of a draft answer held against what a cheap search found: does the text bear it out?

A model that answers what the passages say needs none of them in its prompt; where they do not hold
its answer, either it is wrong or they are beside the point. It costs no pass of any model.
"""

from __future__ import annotations

from collections.abc import Sequence

from hola.retrieval.context.lexical import folded_words, name_stems, stemmed, stems
from hola.retrieval.gate.question import MAX_CHARS
from hola.retrieval.gate.search_shape import LOOKED_AT
from hola.retrieval.types import Passage


def held_signals(question: str, answer: str, passages: Sequence[Passage]) -> dict[str, float]:
    """Of the words of `answer` that `question` lacks, how many the passages have, best first.

    `h_new` counts those words, `h_share` is the share of them in the best passage, `h_share_all` in
    the first five together, `h_names` the share of names and numbers among them in the best one
    (0 where there are none), `h_last` whether it has the last of them, where short answers end.
    """
    asked = set(stems(question[:MAX_CHARS]))
    answer = answer[:MAX_CHARS]
    new = [word for word in stemmed(folded_words(answer)) if word not in asked]
    names = name_stems(answer) - asked
    looked = [set(stems(passage.chunk.embedded_text)) for passage in passages[:LOOKED_AT]]
    best: set[str] = looked[0] if looked else set()
    together: set[str] = set().union(*looked)
    return {
        "h_new": float(len(new)),
        "h_share": sum(word in best for word in new) / max(len(new), 1),
        "h_share_all": sum(word in together for word in new) / max(len(new), 1),
        "h_names": len(names & best) / max(len(names), 1),
        "h_last": float(bool(new) and new[-1] in best),
    }
