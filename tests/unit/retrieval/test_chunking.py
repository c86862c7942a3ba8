"""Chunks: along the structure, never too long, nothing lost, overlap of whole pieces."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings, strategies as st

from hola.errors import InvalidRequest
from hola.retrieval.chunking import chunk_document, digest_of
from hola.retrieval.types import Block, Document


def document(*blocks: Block | str) -> Document:
    made = [block if isinstance(block, Block) else Block(text=block) for block in blocks]
    return Document(source="s", title="Title", blocks=tuple(made))


def sentences(count: int, start: int = 0) -> str:
    return " ".join(f"Sentence number {n:03} ends here." for n in range(start, start + count))


def without_space(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_short_blocks_of_one_section_become_one_chunk():
    (chunk,) = chunk_document(document("One.", "Two."))
    assert (chunk.text, chunk.title) == ("One.\n\nTwo.", "Title")


def test_a_heading_begins_a_new_chunk_and_is_named_with_those_above():
    chunks = chunk_document(
        document(Block(text="a", heading=("A",)), Block(text="b", heading=("A", "B")))
    )
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [("A", "a"), ("A > B", "b")]


def test_a_chunk_stands_on_one_page():
    first, second = Block(text="x", page=1), Block(text="y", page=2)
    chunks = chunk_document(document(first, second))
    assert [chunk.page for chunk in chunks] == [1, 2]


def test_a_long_block_is_cut_between_sentences_with_overlap():
    chunks = chunk_document(document(sentences(20)), max_chars=120, overlap_chars=40)
    for before, after in itertools.pairwise(chunks):
        assert before.text.endswith("here.")
        assert after.text.startswith("Sentence")
        assert before.text[-30:] == after.text[:30]


def test_no_overlap_over_a_heading():
    blocks = [Block(text=sentences(9), heading=("A",)), Block(text="Next.", heading=("B",))]
    assert chunk_document(document(*blocks), max_chars=120, overlap_chars=60)[-1].text == "Next."


def test_lines_of_a_long_block_stay_lines_with_their_indentation():
    code = "\n".join(f"    line_{number}()" for number in range(20))
    (first, *_) = chunk_document(document(code), max_chars=100, overlap_chars=0)
    assert first.text.splitlines()[1] == "    line_1()"


def test_a_word_longer_than_a_chunk_is_cut():
    chunks = chunk_document(document("x" * 250), max_chars=100, overlap_chars=0)
    assert [len(chunk.text) for chunk in chunks] == [100, 100, 50]


def test_an_empty_document_has_no_chunks():
    assert chunk_document(document("", "  \n ")) == ()


def test_ten_megabytes_without_a_space_are_cut_in_one_pass():
    began = time.process_time()
    chunks = chunk_document(document("x" * 10_000_000))
    assert len(chunks) == 10_000
    assert time.process_time() - began < 60  # quadratic cutting takes many minutes


@pytest.mark.parametrize("sizes", [(0, 0), (39, 0), (100, 51), (100, -1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InvalidRequest):
        chunk_document(document("x"), max_chars=sizes[0], overlap_chars=sizes[1])


def test_the_digest_changes_with_text_order_and_page():
    one, two = Block(text="one", heading=("1",)), Block(text="two", heading=("2",))
    moved = Block(text="one", heading=("1",), page=3)
    digests = [digest_of(chunk_document(document(*b))) for b in [(one, two), (two, one), (moved,)]]
    assert len(set(digests)) == 3
    assert digest_of(chunk_document(document(one, two))) == digests[0]


WORDS = st.text(st.sampled_from("abc .!?\n\t\u3002\"'é猫"), max_size=400)
BLOCKS = st.lists(
    st.builds(Block, text=WORDS, heading=st.sampled_from([(), ("A",), ("A", "B")])), max_size=8
)


@settings(deadline=None)
@given(blocks=BLOCKS, max_chars=st.integers(40, 200), data=st.data())
def test_any_document_is_covered_in_order_by_chunks_that_fit(blocks, max_chars, data):
    overlap = data.draw(st.integers(0, max_chars // 2))
    made = Document(source="s", blocks=tuple(blocks))
    chunks = chunk_document(made, max_chars=max_chars, overlap_chars=overlap)
    assert all(0 < len(chunk.text) <= max_chars for chunk in chunks)
    assert all(chunk.text.strip() for chunk in chunks)
    plain = chunk_document(made, max_chars=max_chars, overlap_chars=0)
    joined = "".join(without_space(chunk.text) for chunk in plain)
    assert joined == "".join(without_space(block.text) for block in blocks)
    covered = 0  # with overlap: every chunk starts no later than the text covered so far ends
    for chunk in chunks:
        text = without_space(chunk.text)
        start = max(at for at in range(covered + 1) if joined.startswith(text, at) or at == 0)
        assert joined.startswith(text, start)
        covered = max(covered, start + len(text))
    assert covered == len(joined)
