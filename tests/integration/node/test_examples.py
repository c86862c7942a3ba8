"""The examples run as they stand and give the demo target's answer."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from hola.config import Settings
from hola_cli.node import open_node

REPO = Path(__file__).resolve().parents[3]
ROOTS = os.pathsep.join(str(REPO / root) for root in ("shared", "services"))


async def run(name: str, *arguments: str) -> str:
    """What an example prints; it must end well, within a minute."""
    command = [sys.executable, str(REPO / "examples" / name), *arguments]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": ROOTS,
        "HOLA_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPO, env=environ, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return output.decode()


async def test_embedded() -> None:
    assert "The answer is 14." in await run("embedded_generate.py")


@pytest.mark.parametrize("name", ["plain_grpc_client.py", "remote_generate.py"])
async def test_remote(name: str) -> None:
    settings = Settings(models_dir=str(REPO / "models"))
    async with open_node(settings, listen="127.0.0.1:0") as node:
        address = node.address.removeprefix("grpc://")
        argument = address if name.startswith("plain") else f"grpc://{address}"
        assert "The answer is" in await run(name, argument)
