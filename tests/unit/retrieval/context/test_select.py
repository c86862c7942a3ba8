"""Selection: budget kept, order kept, every sentence accounted for, the needed ones found."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.retrieval.context.scorer import Scorer, default_scorer
from hola.retrieval.context.select import SelectOptions, select_context, sentences_of, titled
from hola.retrieval.context.signals import SIGNALS
from hola.retrieval.context.types import Context, CutReason
from hola.retrieval.types import Chunk, Passage

PLENTY = 10_000


def passage(title: str, text: str, source: str = "s") -> Passage:
    return Passage(chunk=Chunk(title=title, text=text), source=source, ordinal=0, score=1.0)


def count(text: str) -> int:
    return len(text.split())


def select(question: str, passages: list[Passage], budget: int = PLENTY, **options: object):
    return select_context(
        question,
        passages,
        count_tokens=count,
        budget_tokens=budget,
        options=SelectOptions(**options),  # type: ignore[arg-type]
    )


BRIDGES = [
    passage(
        "Ilse Brandt",
        "Ilse Brandt is a potter. She was born in Velden and is the daughter of Otto Brandt."
        " Her bowls are blue. Critics praised the glazes of her later years.",
        "a",
    ),
    passage(
        "Pottery",
        "Pottery is made of clay. Kilns reach a thousand degrees. It breaks.",
        "b",
    ),
    passage(
        "Otto Brandt",
        "Otto Brandt was a miller who died in Graz. Mills were common then.",
        "c",
    ),
    passage("Graz", "Graz is a city. It has trams. Its clock tower is old.", "d"),
    passage("Weather", "Rain fell. Sun shone. Wind blew over the hills all week.", "e"),
]


def test_both_hops_of_a_question_are_kept_and_cited():
    found = select("Where did the father of Ilse Brandt die?", BRIDGES, budget=40)
    text = " ".join(kept.text for kept in found.passages)
    assert "daughter of Otto Brandt" in text
    assert "died in Graz" in text
    assert "Rain fell" not in text
    assert {"a", "c"} <= {citation.source for citation in found.citations}
    for citation in found.citations:
        chunk = BRIDGES[citation.rank].chunk
        assert chunk.id == citation.chunk_id
        assert chunk.text[citation.start : citation.end].strip() in text


def test_more_is_kept_where_more_is_relevant():
    one = select("What is Ilse Brandt's profession?", BRIDGES)
    assert 1 <= len(one.passages) < len(BRIDGES)
    assert {cut.reason for cut in one.cut} == {CutReason.LOW_SCORE}


def test_a_sentence_that_is_said_already_is_cut_and_says_by_whom():
    twice = [BRIDGES[0], passage("Ilse Brandt", BRIDGES[0].chunk.text, "copy")]
    found = select("Where was Ilse Brandt born?", twice)
    assert [kept.rank for kept in found.passages] == [0]
    assert {(cut.rank, cut.like) for cut in found.cut if cut.reason is CutReason.REDUNDANT} == {
        (1, 0)
    }


def test_the_same_words_about_somebody_else_are_not_the_same():
    text = "Born a miller's child, died at home in Graz."
    both = [passage("Otto", text), passage("Ilse", text)]
    found = select("Who died in Graz?", both, min_score=0.0)
    assert [kept.rank for kept in found.passages] == [0, 1]


def test_passages_are_bounded_and_what_does_not_fit_says_so():
    found = select("Where did the father of Ilse Brandt die?", BRIDGES, max_passages=1)
    assert len(found.passages) == 1
    assert CutReason.OVER_BUDGET in {cut.reason for cut in found.cut}


def test_the_best_sentence_is_kept_whatever_its_score():
    found = select("Something else entirely?", BRIDGES, min_score=1.0)
    assert sum(len(kept.runs) for kept in found.passages) == 1


def test_runs_beside_each_other_are_quoted_as_they_stand():
    found = select("Ilse Brandt potter born Velden", BRIDGES[:1], min_score=0.0)
    (kept,) = found.passages
    assert kept.text == BRIDGES[0].chunk.text
    assert found.tokens == count(titled(BRIDGES[0]) + BRIDGES[0].chunk.text)
    assert found.tokens == found.offered_tokens


def test_nothing_fits_in_nothing():
    found = select("Where?", BRIDGES, budget=0)
    assert (found.passages, found.tokens) == ((), 0)
    assert {cut.reason for cut in found.cut} == {CutReason.OVER_BUDGET}


def test_no_passages_no_context():
    assert select("Where?", []).passages == ()


def test_bad_arguments_are_named():
    with pytest.raises(InvalidRequest, match="budget"):
        select("Where?", BRIDGES, budget=-1)
    with pytest.raises(InvalidRequest, match="cosines"):
        select_context("Where?", BRIDGES, count_tokens=count, budget_tokens=9, cosines=[0.5])


WORDS = st.sampled_from("Ilse Otto mill. Graz died? born! in the 1889. 中文。 é  ...".split(" "))
PASSAGES = st.lists(
    st.builds(
        passage,
        st.lists(WORDS, max_size=3).map(" ".join),
        st.lists(WORDS, max_size=30).map(" ".join),
        st.sampled_from("abc"),
    ),
    max_size=6,
)


@settings(max_examples=60)
@given(
    st.lists(WORDS, max_size=8).map(" ".join),
    PASSAGES,
    st.integers(0, 60),
    st.floats(0, 1),
    st.booleans(),
)
def test_budget_order_and_account(
    question: str, passages: list[Passage], budget: int, min_score: float, by_chars: bool
):
    found = select_context(
        question,
        passages,
        count_tokens=len if by_chars else count,
        budget_tokens=budget,
        options=SelectOptions(min_score=min_score),
    )
    assert found.tokens == sum(kept.tokens for kept in found.passages) <= budget
    assert [kept.rank for kept in found.passages] == sorted({k.rank for k in found.passages})
    assert_accounted(found, passages)


def assert_accounted(found: Context, passages: list[Passage]) -> None:
    """Every sentence is kept or cut, none twice; kept runs stand in the order of the text."""
    covered = [(kept.rank, run.start, run.end) for kept in found.passages for run in kept.runs]
    assert covered == sorted(covered)
    every = covered + [(cut.rank, cut.span.start, cut.span.end) for cut in found.cut]
    for rank, item in enumerate(passages):
        chars = [i for r, start, end in every if r == rank for i in range(start, end)]
        assert len(chars) == len(set(chars))
        assert sorted(chars) == list(range(len(item.chunk.text))) or not item.chunk.text.strip()
    assert len(sentences_of(passages)) >= len(found.cut)


def test_cosines_count_only_where_there_are_any():
    scorer = Scorer(bias=-1.0, weights={"cosine": 4.0})
    sentences = sentences_of(BRIDGES)
    cosines = [1.0 if "trams" in sentence.text else 0.0 for sentence in sentences]
    found = select_context(
        "Where?",
        BRIDGES,
        count_tokens=count,
        budget_tokens=6,
        cosines=cosines,
        options=SelectOptions(scorer=scorer),
    )
    assert [kept.text for kept in found.passages] == ["It has trams."]


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {},
        {"format": 2, "bias": 0, "weights": {}},
        {"format": 1, "bias": "x", "weights": {}},
        {"format": 1, "bias": 0, "weights": []},
        {"format": 1, "bias": 0, "weights": {"no_such": 1}},
        {"format": 1, "bias": 0, "weights": {"first*no_such": 1}},
        {"format": 1, "bias": 0, "weights": {"first": math.nan}},
        {"format": 1, "bias": math.inf, "weights": {}},
    ],
)
def test_malformed_weights_are_refused(stored: object):
    with pytest.raises(ArtifactInvalid, match="context weight"):
        Scorer.from_json(stored)


def test_the_weights_that_come_with_hola_survive_a_round_trip():
    scorer = default_scorer()
    assert Scorer.from_json(scorer.as_json()) == scorer
    assert len(set(SIGNALS)) == len(SIGNALS)
