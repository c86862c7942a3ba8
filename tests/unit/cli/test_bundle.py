"""A bundle's sums: every change to it is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola import __version__
from hola.errors import ConfigError
from hola_cli.bundle import SUMS, checkout, digest, files_of, images_named, verify


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "models/demo").mkdir(parents=True)
    (tmp_path / "models/demo/hola.json").write_text("{}")
    (tmp_path / "README.txt").write_text("read me")
    lines = [f"{digest(path)}  {path.relative_to(tmp_path)}\n" for path in files_of(tmp_path)]
    (tmp_path / SUMS).write_text("".join(lines))
    return tmp_path


def test_what_is_as_recorded_passes(bundle: Path) -> None:
    assert verify(bundle) == 2


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: (path / "README.txt").write_text("other"), "README.txt"),
        (lambda path: (path / "README.txt").unlink(), "README.txt"),
        (lambda path: (path / "models/more").write_text("x"), "models/more"),
        (lambda path: (path / SUMS).unlink(), "no bundle"),
        (lambda path: (path / SUMS).write_text("garbage\n\n"), "README.txt"),
    ],
)
def test_what_is_not_is_named(bundle: Path, spoil, named: str) -> None:
    spoil(bundle)
    with pytest.raises(ConfigError, match=named):
        verify(bundle)


def test_images_are_ours_at_this_version_and_others_by_tag() -> None:
    names = images_named(checkout())
    assert f"hola-edge:{__version__}" in names
    assert all(name.endswith(f":{__version__}") for name in names if name.startswith("hola-"))
    assert [name for name in names if name.startswith("docker.io/library/redis:")]
    assert not [name for name in names if "@" in name]
