"""load_engine and require: the right engine, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.engines import load_engine
from hola.engines.scripted import ScriptedEngine
from hola.errors import ArtifactInvalid, ConfigError, MissingExtra
from hola.extras import check_installed, require


def test_scripted_engine_by_specification() -> None:
    engine = load_engine("scripted:seed=3,vocab_size=64,eos_token_id=1")
    assert isinstance(engine, ScriptedEngine)
    assert engine.info.vocab_size == 64


def test_unknown_setting_of_a_scripted_engine() -> None:
    with pytest.raises(ConfigError):
        load_engine("scripted:colour=red")


@pytest.mark.parametrize("name", ["missing", "."])
def test_not_a_model_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactInvalid, match=r"genai_config\.json"):
        load_engine(tmp_path / name)


def test_absent_library_names_the_extra() -> None:
    with pytest.raises(MissingExtra) as caught:
        require("surely_not_installed.part", "edge")
    assert "pip install 'hola-edge[edge]'" in caught.value.message
    with pytest.raises(MissingExtra):
        check_installed("surely_not_installed", "compress")


def test_present_library() -> None:
    check_installed("json", "edge")
    assert require("json.decoder", "edge").JSONDecoder is not None


def test_broken_library_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("import surely_not_installed_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed_either"):
        require("broken_library", "edge")
