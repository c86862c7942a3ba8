"""PDF: damaged in any way it gives text or a typed error, and says when its library is missing."""

from __future__ import annotations

import contextlib
import random

import pytest

from hola.errors import DocumentInvalid, MissingExtra
from hola.retrieval.readers import pdf as pdf_module
from hola.retrieval.readers.pdf import read_pdf
from tests.support.documents import pdf

WHOLE = pdf("Green tea is good\nreally", "Second page")


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_gives_text_or_a_typed_error(seed):
    """To replay one: the seed is in the test's name."""
    draw = random.Random(seed)
    data = bytearray(WHOLE)
    for _ in range(draw.randint(1, 20)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.3:
        del data[draw.randrange(len(data)) :]
    with contextlib.suppress(DocumentInvalid):
        made = read_pdf(bytes(data), "s", 100)
        assert all(block.text.strip() and block.page in (1, 2) for block in made.blocks)


def test_without_its_library_the_pip_line_is_given(monkeypatch):
    def missing(module: str, extra: str) -> None:
        raise MissingExtra(f"{module} is not installed; run: pip install 'hola-edge[{extra}]'")

    monkeypatch.setattr(pdf_module, "require", missing)
    with pytest.raises(MissingExtra, match=r"pypdf.*\[retrieval\]"):
        read_pdf(WHOLE, "s", 100)
