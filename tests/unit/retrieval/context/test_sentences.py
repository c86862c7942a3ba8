"""The splitter: no character lost, abbreviations and initials kept whole, other scripts split."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from hola.retrieval.context.sentences import LINES_FROM_CHARS, split_sentences


def split(text: str) -> list[str]:
    return [span.of(text).strip() for span in split_sentences(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. J. R. R. Tolkien met Dr. Lee.", "They talked."],
        ["The U.S. Army left.", "He moved to the U.S.", "The end came."],
        ["It rose by 3.5 per cent in 1999.", "Version 2.0.1 was out."],
        ['"Really?" he asked.', '"Yes!"', "Then he left."],
        ["He wrote “The Hobbit.”", "It sold well."],
        ["See Fig. 3 and No. 5 below.", "I said no.", "So did she."],
        ["He worked at Acme Inc. until 1990.", "He liked it."],
        ["Yahoo! is a company.", "Was it bought?", "It was..."],
        ["She waited... and left.", "Gone!"],
        ["(He was late.)", "Nobody cared."],
        ["Born c. 1200, died ca. 1270, e.g. in Rome, i.e. abroad.", "So it is told."],
    ],
)
def test_english(sentences: list[str]):
    assert split(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("他走了。「好\uff01」她说。", ["他走了。", "「好\uff01」", "她说。"]),
        ("東京は大きい。人が多い\uff1f", ["東京は大きい。", "人が多い\uff1f"]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("Это дом. Он стар.", ["Это дом.", "Он стар."]),
        ("¿Qué? Nada.", ["¿Qué?", "Nada."]),
    ],
)
def test_other_scripts(text: str, sentences: list[str]):
    assert split(text) == sentences


def test_paragraphs_and_items_end_sentences_and_wrapped_lines_do_not():
    text = "A title\n\nA line that is\nwrapped. Then\n- one\n- two\n1. First thing\n2. Second"
    assert split(text) == [
        "A title",
        "A line that is\nwrapped.",
        "Then",
        "- one",
        "- two",
        "1. First thing",
        "2. Second",
    ]


def test_a_long_piece_of_many_lines_is_cut_at_its_lines():
    lines = [f"row {n} of a table without a mark" for n in range(LINES_FROM_CHARS // 10)]
    assert split("\n".join(lines)) == lines


def test_nothing_and_white_space():
    assert split_sentences("") == ()
    assert [span.of(" \n\n ") for span in split_sentences(" \n\n ")] == [" \n\n "]


TEXTS = st.text(
    st.sampled_from("aB 1.!?\n\t\"'()[]”»。\uff1f। -•|#…\u00a0\u2028\u0000Dr.U.S.é中"), max_size=200
) | st.text(max_size=200)


@given(TEXTS)
def test_spans_make_up_the_text(text: str):
    spans = split_sentences(text)
    assert "".join(span.of(text) for span in spans) == text
    assert all(a.end == b.start for a, b in itertools.pairwise(spans))
    assert len(spans) <= 1 or all(span.of(text).strip() for span in spans)
