"""Incremental text: characters over several tokens, stop strings over several tokens."""

from __future__ import annotations

from random import Random

import pytest

from hola.engines.scripted import ScriptedTokenizer
from hola.speculation.stopping import TextStream

BYTES = ScriptedTokenizer()


def stream(text: str | bytes, *stop: str) -> tuple[list[str], TextStream]:
    """Push a text byte by byte; returns the pieces, up to the stop string."""
    raw = text.encode() if isinstance(text, str) else text
    stream = TextStream(BYTES, stop)
    pieces = []
    for token in raw:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return pieces, stream


def test_a_character_comes_with_its_last_token() -> None:
    pieces, rest = stream("a€b")
    assert pieces == ["a", "", "", "€", "b"]
    assert rest.flush() == ""


@pytest.mark.parametrize(
    "text", ["", "abc", "ä€😀", "\ufffd", "x\ufffd\ufffd", "tab\tnew\nline", "日本語のテキスト"]
)
def test_pieces_add_up_to_the_text(text: str) -> None:
    pieces, rest = stream(text)
    assert "".join(pieces) + rest.flush() == text


def test_bytes_that_are_no_text_add_up_too() -> None:
    for seed in range(200):
        random = Random(seed)
        raw = bytes(random.choice(b"ab\xe2\x82\xac\xf0\x9f\x98\x80\xff") for _ in range(30))
        pieces, rest = stream(raw)
        assert "".join(pieces) + rest.flush() == BYTES.decode(list(raw)), f"replay: {raw!r}"


def test_specials_have_no_text_and_break_nothing() -> None:
    text = TextStream(BYTES, ())
    raw = "€".encode()
    assert [text.push(token) for token in (raw[0], 256, raw[1], 257, raw[2], 256, 97)] == [
        "",
        "",
        "",
        "",
        "€",
        "",
        "a",
    ]


class SpaceEater:
    """Like sentencepiece decoders: the first word of a text loses its leading space."""

    fingerprint = ""
    vocab_size = 4
    words = ("", " one", " two", "s")

    def encode(self, text):
        raise NotImplementedError

    def decode(self, tokens):
        return "".join(self.words[token] for token in tokens).removeprefix(" ")


def test_spaces_between_words_survive() -> None:
    text = TextStream(SpaceEater(), ())
    assert [text.push(token) for token in (1, 2, 0, 3, 2)] == ["one", " two", "", "s", " two"]


class TestStopStrings:
    @pytest.mark.parametrize(
        ("text", "stop", "expected"),
        [
            ("hello END world", ("END",), "hello "),
            ("aaab", ("aab",), "a"),
            ("abab", ("abb", "ba"), "a"),
            ("xyz", ("z", "yz"), "x"),
            ("abcd", ("abcd", "bc"), "a"),
            ("€€x", ("€x",), "€"),
            ("ab", ("ab",), ""),
        ],
    )
    def test_text_ends_before_the_first(self, text, stop, expected) -> None:
        pieces, rest = stream(text, *stop)
        assert rest.stopped
        assert "".join(pieces) == expected
        assert rest.flush() == ""

    def test_holds_back_what_may_become_one(self) -> None:
        pieces, rest = stream("an EN", "END")
        assert pieces == ["a", "n", " ", "", ""]
        assert not rest.stopped
        assert rest.flush() == "EN"
        assert rest.flush() == ""

    def test_lets_go_when_it_did_not(self) -> None:
        assert stream("ENTER", "END")[0] == ["", "", "ENT", "", "ER"]

    def test_a_token_may_hold_text_before_and_after_it(self) -> None:
        class Words:
            fingerprint = ""
            vocab_size = 2

            def encode(self, text):
                raise NotImplementedError

            def decode(self, tokens):
                return "".join(("say ", "stop now")[token] for token in tokens)

        text = TextStream(Words(), ("op n",))
        assert [text.push(0), text.push(1)] == ["say ", "st"]
        assert text.stopped

    def test_flush_gives_the_open_character(self) -> None:
        pieces, rest = stream(b"ab" + b"\xe2\x82", "bc")
        assert pieces == ["a", "", "", ""]
        assert rest.flush() == "b\ufffd"

    def test_against_searching_the_whole_text(self) -> None:
        stopped = 0
        for seed in range(500):
            random = Random(seed)
            text = "".join(random.choice("ab€") for _ in range(25))
            stop = tuple(
                "".join(random.choice("ab€") for _ in range(random.randint(2, 5)))
                for _ in range(random.randint(1, 3))
            )
            pieces, rest = stream(text, *stop)
            got = "".join(pieces) + rest.flush()
            for end in range(len(text) + 1):
                found = [at for each in stop if (at := text[:end].find(each)) >= 0]
                if found:
                    stopped += 1
                    assert got == text[: min(found)], f"replay: seed={seed}"
                    break
            else:
                assert got == text, f"replay: seed={seed}"
        assert stopped > 100
