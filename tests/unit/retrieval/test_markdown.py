"""Markdown and text: blocks, headings and titles; any text is read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hola.retrieval.readers.markdown import read_markdown, read_text

PAGE = """\
# Brewing

Intro line one
line two

## Green tea ##

- cool water
- short time

```python
# not a heading

x = 1
```

Black tea
---------
Boiling water.

#hashtag is text
### Deep
text
## Back
end
"""


def test_blocks_stand_under_their_headings():
    made = read_markdown(PAGE, "s")
    assert made.title == "Brewing"
    assert [(block.heading, block.text) for block in made.blocks] == [
        ((), "Intro line one\nline two"),
        (("Green tea",), "- cool water\n- short time"),
        (("Green tea",), "```python\n# not a heading\n\nx = 1\n```"),
        (("Black tea",), "Boiling water."),
        (("Black tea",), "#hashtag is text"),
        (("Black tea", "Deep"), "text"),
        (("Back",), "end"),
    ]


def test_the_title_may_stand_in_the_front_matter():
    made = read_markdown("---\ntags: x\ntitle: 'On tea'\n---\n# Chapter\nText\n", "s")
    assert made.title == "On tea"
    assert [(block.heading, block.text) for block in made.blocks] == [(("Chapter",), "Text")]


def test_a_rule_at_the_top_is_no_front_matter():
    assert [block.text for block in read_markdown("---\ntext\n", "s").blocks] == ["---\ntext"]


def test_a_fence_that_never_closes_runs_to_the_end():
    made = read_markdown("a\n\n~~~\n# x\n\ny", "s")
    assert [block.text for block in made.blocks] == ["a", "~~~\n# x\n\ny"]


@pytest.mark.parametrize("text", ["", "\n\n", "   \n\t\n"])
def test_nothing_gives_no_blocks(text):
    assert read_markdown(text, "s").blocks == ()
    assert read_text(text, "s").blocks == ()


def test_text_is_cut_at_empty_lines_whatever_ends_them():
    made = read_text("one\r\n\r\ntwo\rstill two\n \t\nthree", "s")
    assert [block.text for block in made.blocks] == ["one", "two\nstill two", "three"]


@given(text=st.text(st.sampled_from("ab#=-`~ \n\r\t>*[]"), max_size=200))
def test_no_letter_is_lost(text):
    for read in (read_markdown, read_text):
        made = read(text, "s")
        kept = made.title + "".join("".join(b.heading) + b.text for b in made.blocks)
        if read is read_text:
            assert [c for c in kept if c in "ab"] == [c for c in text if c in "ab"]
        else:  # a heading stands before each of its blocks, or has none
            assert set(kept) - {"\n"} <= set(text)
