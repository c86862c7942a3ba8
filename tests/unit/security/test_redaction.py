"""Secrets do not reach a log line, whatever it is that is logged."""

from __future__ import annotations

import itertools

import pytest

from hola.security.api_keys import new_key
from hola.security.redaction import REDACTED, clean_text, redact
from tests.support.security import signing_key, token

KEY = new_key("acme").text
TOKEN = token(signing_key())
PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nabc=\n-----END PRIVATE KEY-----"
PRIVATE = "MIGHAgEAMBMGByqGSM49"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"authorization: Bearer {KEY}", KEY),
        (f"(('authorization', 'bearer {TOKEN}'),)", TOKEN),
        (f"b'Bearer {KEY}\\xff'", KEY),
        (f"refused {KEY} of acme", KEY),
        (f"refused {TOKEN}.", TOKEN),
        ("redis://hola:hunter2@redis:6379/0", "hunter2"),
        ("cannot reach rediss://:hunter2@redis:6379, retrying", "hunter2"),
        ("redis://redis?password=hunter2&x=1", "hunter2"),
        (f"HOLA_TOKEN={KEY} hola generate", KEY),
        (PEM, PRIVATE),
        (PEM.replace("PRIVATE", "EC PRIVATE"), PRIVATE),
        (PEM.partition("-----END")[0], PRIVATE),
    ],
    ids=itertools.count(),
)
def test_a_secret_inside_a_text_is_blanked(text, secret):
    assert secret not in clean_text(text)


def test_a_text_without_secret_stays():
    text = "files_reloaded ('/etc/hola/tls.crt',) grpcs://router:7070 bearer of news, tokens=3"
    assert clean_text(text) == text


@pytest.mark.parametrize(
    "name", ["prompt", "messages", "token", "password", "authorization", "metadata", "private_key"]
)
def test_a_value_is_blanked_for_its_name(name):
    assert redact(None, "info", {name: "x", "kept": 3}) == {name: REDACTED, "kept": 3}


def test_nested_values_are_searched():
    event = {
        "details": {"prompt": "Ann is ill", "list": [f"Bearer {KEY}", {"deep": (KEY,)}]},
        "raw": f"Bearer {KEY}".encode(),
        "number": 1.5,
        "nothing": None,
    }
    cleaned = redact(None, "info", event)
    assert KEY not in str(cleaned)
    assert "Ann" not in str(cleaned)
    assert cleaned["number"] == 1.5
    assert cleaned["nothing"] is None


def test_what_is_nested_without_end_is_blanked():
    endless = []
    endless.append(endless)
    assert REDACTED in str(redact(None, "info", {"event": endless}))
