"""Files are read again when they change, and unusable ones change nothing."""

from __future__ import annotations

import os

import pytest

from hola.errors import ConfigError
from hola.security.watched import LOOK_EVERY_S, Watched, read_file


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        self.now += LOOK_EVERY_S


def number(path) -> int:
    text = read_file(str(path), "HOLA_API_KEYS", 100).decode()
    if not text.isdecimal():
        raise ConfigError("no number")
    return int(text)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_text("1")
    return path


def replace(path, text):
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def test_a_change_is_seen_at_the_next_look(path, clock):
    watched = Watched([str(path)], lambda: number(path), clock=clock)
    replace(path, "2")
    assert not watched.refresh()
    assert watched.value == 1
    clock.later()
    assert watched.refresh()
    assert watched.value == 2
    clock.later()
    assert not watched.refresh()


@pytest.mark.parametrize("broken", ["", "x"])
def test_an_unusable_file_leaves_what_was_and_is_tried_again(path, clock, broken):
    watched = Watched([str(path)], lambda: number(path), clock=clock)
    for _ in range(3):
        replace(path, broken)
        clock.later()
        assert not watched.refresh()
        assert watched.value == 1
    replace(path, "3")
    clock.later()
    assert watched.refresh()
    assert watched.value == 3


def test_a_missing_file_leaves_what_was(path, clock):
    watched = Watched([str(path)], lambda: number(path), clock=clock)
    path.unlink()
    clock.later()
    assert not watched.refresh()
    assert watched.value == 1


def test_a_file_that_changes_while_it_is_read_is_read_once_more(path, clock):
    turns = iter(["5", "6", None, None])

    def load():
        found = number(path)
        if text := next(turns):
            replace(path, text)
        return found

    watched = Watched([str(path)], load, clock=clock)
    clock.later()
    assert not watched.refresh()
    assert watched.value == 1
    clock.later()
    assert watched.refresh()
    assert watched.value == 6


def test_what_cannot_be_read_at_the_start_is_an_error(tmp_path, path):
    with pytest.raises(ConfigError, match=r"HOLA_API_KEYS=.*cannot be read: No such file"):
        Watched([], lambda: number(tmp_path / "none"))
    path.write_text("1" * 101)
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        number(path)


async def test_fresh_looks_too(path, clock):
    watched = Watched([str(path)], lambda: number(path), clock=clock)
    replace(path, "2")
    assert await watched.fresh() == 1
    clock.later()
    assert await watched.fresh() == 2
