"""The numerics probe: steady where the engine is, and it notices one unit in the last place."""

from __future__ import annotations

import pytest

from hola.engines.fingerprint import probe
from hola.engines.scripted import Script, ScriptedEngine
from tests.support.fake_engines import WidthSensitiveEngine


def test_equal_engines_have_equal_fingerprints() -> None:
    first, second = probe(ScriptedEngine()), probe(ScriptedEngine())
    assert first == second
    assert first.exact
    assert first.reason == ""
    assert len(first.digest) == 64


def test_other_weights_give_another_fingerprint() -> None:
    assert probe(ScriptedEngine()).digest != probe(ScriptedEngine(Script(seed=1))).digest


@pytest.mark.parametrize("limit", [2, 8, 16, 31])
def test_an_engine_that_depends_on_width_is_not_exact(limit: int) -> None:
    """Wider passes than `limit` differ in the last bit; the reason names a width that does."""
    found = probe(WidthSensitiveEngine(limit))
    assert not found.exact
    assert "width 2" in found.reason


@pytest.mark.parametrize("context", [2, 3, 16, 70])
def test_short_contexts_get_a_shorter_probe(context: int) -> None:
    assert probe(ScriptedEngine(Script(context_length=context))).exact
