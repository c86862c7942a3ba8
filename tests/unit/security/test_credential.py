"""What a client shows, from a variable or a file, and what it will not send."""

from __future__ import annotations

import pytest

from hola.config import Settings
from hola.errors import ConfigError
from hola.security import watched
from hola.security.credential import Credential


def test_nothing_is_shown_without_a_token():
    credential = Credential(Settings())
    assert not credential
    assert credential.metadata() == ()


def test_the_token_is_shown_as_bearer():
    credential = Credential(Settings(token="abc"))
    assert credential
    assert credential.metadata() == (("authorization", "Bearer abc"),)


def test_a_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0)
    path = tmp_path / "token"
    path.write_text("one\n")
    credential = Credential(Settings(token_file=str(path)))
    assert credential.metadata() == (("authorization", "Bearer one"),)
    path.write_text("second\n")
    assert credential.metadata() == (("authorization", "Bearer second"),)
    path.write_text("")
    assert credential.metadata() == (("authorization", "Bearer second"),)


@pytest.mark.parametrize("text", ["a b", "a\nb", "\x00", "é", "a" * 8193])
def test_what_cannot_be_sent_is_an_error_that_does_not_show_it(text, tmp_path):
    with pytest.raises(ConfigError, match="HOLA_TOKEN holds no key") as raised:
        Credential(Settings(token=text))
    assert text not in raised.value.message
    path = tmp_path / "token"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="HOLA_TOKEN_FILE"):
        Credential(Settings(token_file=str(path)))


def test_a_missing_file_and_two_sources_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"HOLA_TOKEN_FILE=.* cannot be read"):
        Credential(Settings(token_file=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="both set"):
        Credential(Settings(token="a", token_file="b"))


def test_settings_do_not_print_the_token():
    assert "hunter2" not in repr(Settings(token="hunter2"))
