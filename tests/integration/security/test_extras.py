"""What an edge install has not got is asked for by name, and the rest works without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hola.config import Settings
from hola.errors import ConfigError, MissingExtra
from hola.rpc.process import run
from hola.security.authenticate import Authenticator
from tests.support.security import AUDIENCE, ISSUER, Pki

# As if they were not installed: an entry of None makes an import fail.
WITHOUT = """
import sys
sys.modules.update(cryptography=None, joserfc=None)
import hola_cli.main, hola_router.app, hola_drafter.app, hola_verifier.app
from hola.config import Settings
from hola.rpc.server import RpcServer
from hola.telemetry import Metrics
RpcServer("127.0.0.1:0", [], Settings(api_keys=sys.argv[1]), Metrics())
from hola.security.tls import watched_pems
cert, key, ca = sys.argv[2:]
watched_pems(Settings(tls_cert=cert, tls_key=key, tls_ca=ca))
print("fine")
"""


def test_keys_and_tls_need_no_extra(pki: Pki, repo_root: Path) -> None:
    keys = pki.folder / "keys"
    keys.write_bytes(b"")
    tls = pki.settings("verifier")
    files = [str(keys), tls["tls_cert"], tls["tls_key"], tls["tls_ca"]]
    path = os.pathsep.join(str(repo_root / root) for root in ("shared", "services", "bench"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *files],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fine\n", done.stderr


def test_signed_tokens_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = Settings(jwks="f", jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    with pytest.raises(MissingExtra, match=r"pip install 'hola-edge\[auth\]'"):
        Authenticator(settings, takes_tokens=True)


def test_a_service_says_what_is_wrong_before_it_loads_anything(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = pki.settings("verifier")
    environment = {f"HOLA_{name.upper()}": value for name, value in settings.items()}
    (pki.folder / "verifier.key").write_bytes(b"garbage")

    def build(*_: object) -> object:
        raise AssertionError("built")

    assert run("verifier", build, environment) == ConfigError.exit_code  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert told.startswith("hola-verifier: HOLA_TLS_CERT=")
    assert told.count("\n") == 1
