"""`hola health` asks the port that speaks its language."""

from __future__ import annotations

import asyncio
from typing import Any

from typer.testing import CliRunner, Result

from hola.config import Settings
from hola_cli.main import app
from tests.support.rpc import running_kinds
from tests.support.security import Pki


async def health(*arguments: str, **settings: Any) -> Result:
    env = {f"HOLA_{name.upper()}": str(value) for name, value in settings.items()}
    return await asyncio.to_thread(CliRunner().invoke, app, ["health", *arguments], env=env)


async def test_the_tls_port_with_a_certificate_and_the_health_port_without(pki: Pki) -> None:
    client = pki.settings("drafter")
    options = pki.settings("verifier") | {"health_listen": "0.0.0.0:0"}
    async with running_kinds(client=Settings(**client), **options) as rig:
        port = rig.server.health_port
        assert (await health(rig.server.address, **client)).exit_code == 0
        assert (await health(rig.server.address, "--timeout", "1")).exit_code == 6
        assert (await health(f"localhost:{port}")).exit_code == 0
        assert (await health(f"localhost:{port}", "--plaintext", **client)).exit_code == 0
        wrong = await health(f"localhost:{port}", **client)
        assert wrong.exit_code == 6
        own = await health(health_listen=f"0.0.0.0:{port}", **client)
        assert own.exit_code == 0
        assert own.stdout == f"127.0.0.1:{port}: SERVING\n"


async def test_without_an_address_and_without_a_port() -> None:
    result = await health()
    assert result.exit_code == 2
    assert "HOLA_HEALTH_LISTEN is not set" in result.stderr
