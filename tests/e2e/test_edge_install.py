"""An edge install in a clean environment: no torch, no transformers, under 280 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

MOST_MB = 280
PACKAGES = {
    "hola",
    "hola_router",
    "hola_drafter",
    "hola_verifier",
    "hola_compressor",
    "hola_cli",
    "hola_bench",
}
HEAVY = ("torch", "transformers")
pytestmark = pytest.mark.timeout(300)  # whichever test is first waits for the install


@dataclass(frozen=True, slots=True)
class Install:
    """A virtual environment that holds `.[edge]` and pip."""

    venv: Path

    def python(self, code: str, folder: Path) -> str:
        """What the code prints, run far from the checkout."""
        command = [self.venv / "bin/python", "-c", code]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return run.stdout


@pytest.fixture(scope="module")
def edge(tmp_path_factory, repo_root) -> Install:
    venv = tmp_path_factory.mktemp("edge") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = ["--constraint", repo_root / "requirements/lock.txt"]
    subprocess.run([*pip, *lock, f"{repo_root}[edge]"], check=True, timeout=280)
    return Install(venv)


def test_the_drafter_imports_neither_torch_nor_transformers(edge, tmp_path):
    code = (
        "import json, sys, importlib.util as u; import hola_drafter.app;"
        f"print(json.dumps([[m in sys.modules, u.find_spec(m) is not None] for m in {HEAVY}]))"
    )
    assert json.loads(edge.python(code, tmp_path)) == [[False, False]] * len(HEAVY)


def test_every_package_and_the_command_are_installed(edge, tmp_path):
    code = f"import {', '.join(sorted(PACKAGES))}; print(hola.__file__)"
    assert str(edge.venv) in edge.python(code, tmp_path)
    run = subprocess.run([edge.venv / "bin/hola", "--help"], cwd=tmp_path, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_the_lib_folder_stays_small(edge, capsys):
    files = [path.lstat() for path in (edge.venv / "lib").rglob("*") if not path.is_dir()]
    on_disk_mb = sum(file.st_blocks * 512 for file in files) / 2**20
    bytes_mb = sum(file.st_size for file in files) / 1e6
    with capsys.disabled():
        print(
            f"\nedge install: {on_disk_mb:.0f} MiB on disk, {bytes_mb:.0f} MB in {len(files)} files"
        )
    assert max(on_disk_mb, bytes_mb) < MOST_MB


def test_the_wheel_holds_our_packages_and_nothing_else(edge):
    (record,) = edge.venv.glob("lib/*/site-packages/hola_edge-*.dist-info/RECORD")
    paths = [line.partition(",")[0] for line in record.read_text("utf-8").splitlines()]
    tops = {path.partition("/")[0] for path in paths if not path.startswith(("../", "hola_edge-"))}
    assert tops == PACKAGES
    assert not [path for path in paths if path.endswith((".onnx", ".safetensors", ".proto"))]
