"""docs/SECURITY.md: its commands work as they stand, its settings and tests exist."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hola.config import Settings

SHIM = "#!/bin/sh\nexec {python} -c 'from hola_cli.main import main; main()' \"$@\"\n"


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "docs/SECURITY.md").read_text("utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.timeout(180)
def test_the_five_commands(page: str, tmp_path: Path, repo_root: Path) -> None:
    """On a free port of loopback, else as they stand."""
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(re.findall(r"\bhola \w+", block)) == 5
    port = free_port()
    script = block.replace("0.0.0.0:7070", f"127.0.0.1:{port}").replace(":7070", f":{port}")
    shim = tmp_path / "bin" / "hola"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable))
    shim.chmod(0o755)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("HOLA_")}
    environment |= {"PATH": f"{shim.parent}:{os.environ['PATH']}", "HOLA_THREADS": "1"}
    environment["HOLA_MODELS_DIR"] = str(repo_root / "models")
    roots = ("shared", "services", "bench")
    environment["PYTHONPATH"] = os.pathsep.join(str(repo_root / root) for root in roots)
    run = subprocess.run(
        ["bash", "-ec", f"trap 'kill %1; wait' EXIT\n{script}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stderr
    assert f"serving demo at grpcs://127.0.0.1:{port}" in run.stdout
    assert "tokens" in run.stderr
    key = (tmp_path / "acme.key").read_text().strip()
    assert key.startswith("hola_")
    assert key not in run.stdout + run.stderr


def test_every_setting_it_names_exists(page: str) -> None:
    named = set(re.findall(r"\bHOLA_([A-Z_]+[A-Z])\b", page))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    tls = {"tls_cert", "tls_key", "tls_ca", "api_keys", "jwks", "client_certs", "health_listen"}
    assert tls <= {name.lower() for name in named}


def test_every_file_it_names_exists(page: str, repo_root: Path) -> None:
    for path in re.findall(r"`((?:unit|integration)/[\w/.]+)`", page):
        assert (repo_root / "tests" / path).exists(), path
    for path in re.findall(r"`(shared/[\w/.]+)`", page):
        assert (repo_root / path).is_file(), path
    for path in re.findall(r"\]\((\w+\.md)\)", page):
        assert (repo_root / "docs" / path).is_file(), path
