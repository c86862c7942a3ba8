"""API keys: what is printed once opens the door, what is stored does not."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import example, given, strategies as st

from hola.errors import ConfigError, InvalidRequest
from hola.security.api_keys import caller_of_key, new_key, parse_keys, watched_keys
from hola.security.caller import CallerKind

ACME, OTHER = new_key("acme"), new_key("other")
FILE = f"# keys\n\n{ACME.line}\n  {OTHER.line}  \n".encode()


def test_a_key_names_its_tenant():
    keys = parse_keys(FILE, "f")
    caller = caller_of_key(ACME.text, keys)
    assert (caller.tenant, caller.kind) == ("acme", CallerKind.CLIENT)
    assert caller.name == "key-" + ACME.line.partition(" ")[0]
    assert caller_of_key(OTHER.text, keys).tenant == "other"


def test_the_line_does_not_hold_the_key():
    secret = ACME.text.rpartition("_")[2]
    assert secret not in ACME.line
    assert len({new_key("acme").text for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        ACME.line.partition("sha256:")[2],
        ACME.text[:-1],
        ACME.text + "A",
        ACME.text.upper(),
        ACME.text[:14] + OTHER.text[14:],
        new_key("acme").text,
        "",
        "hola_00000000_" + "A" * 43,
    ],
    ids=itertools.count(),
)
def test_nothing_else_opens(text):
    assert caller_of_key(text, parse_keys(FILE, "f")) is None


@pytest.mark.parametrize("place", range(5, len(ACME.text)))
def test_one_changed_character_is_enough_to_be_refused(place):
    other = "0" if ACME.text[place] != "0" else "1"
    text = ACME.text[:place] + other + ACME.text[place + 1 :]
    assert caller_of_key(text, parse_keys(FILE, "f")) is None


@pytest.mark.parametrize(
    "line",
    [
        "x",
        ACME.text,
        ACME.line.replace("sha256:", "md5:"),
        ACME.line[:-1],
        ACME.line + "0",
        ACME.line.replace("acme", "a/b"),
        ACME.line.replace("acme", "a" * 65),
        ACME.line + " more",
        "\x00",
        "é",
    ],
    ids=itertools.count(),
)
def test_a_wrong_line_is_named_and_not_shown(line):
    with pytest.raises(ConfigError, match="HOLA_API_KEYS=f line 2") as raised:
        parse_keys(f"# first\n{line}\n".encode(), "f")
    assert ACME.text not in raised.value.message


def test_an_id_is_there_once():
    with pytest.raises(ConfigError, match="line 2: its id is there already"):
        parse_keys(f"{ACME.line}\n{ACME.line}".encode(), "f")


def test_a_key_is_for_a_tenant():
    with pytest.raises(InvalidRequest):
        new_key("a tenant")


def test_an_empty_file_lets_nobody_in(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(b"")
    assert watched_keys(str(path)).value == {}


@given(st.binary(max_size=200))
@example(b"\xff")
@example(b"\r\n\r")
@example(FILE)
def test_any_file_is_read_or_refused(content):
    with suppress(ConfigError):
        assert len(parse_keys(content, "f")) <= content.count(b"sha256:")


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(text):
    assert caller_of_key(text, parse_keys(FILE, "f")) is None
