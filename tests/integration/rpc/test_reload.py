"""SIGHUP at a real service: the file's new values count, a bad file changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from hola.config import Settings
from hola.errors import QuotaExceeded
from hola.rpc.router_client import RouterClient
from hola.types import GenerateRequest
from tests.support.process import SCRIPTED, running_service


async def is_refused(client: RouterClient) -> bool:
    """Whether the tenant has begun enough requests; one that is let in is left in the queue."""
    try:
        async for _ in client.generate(GenerateRequest(prompt="Hi"), timeout_s=0.3):
            pass
    except QuotaExceeded:
        return True
    except Exception:
        return False
    return False


async def test_limits_and_the_log_level_change_while_it_runs(tmp_path: Path) -> None:
    file, tenants = tmp_path / "hola.toml", tmp_path / "tenants.toml"
    file.write_text(f'tenants = "{tenants}"\nlog_level = "info"\n')
    tenants.write_text("")
    address = f"unix://{tmp_path}/router.sock"
    settings = {"HOLA_LISTEN": address, "HOLA_BUS": "memory:", "HOLA_MODEL": SCRIPTED}
    client = RouterClient(address, Settings())
    async with running_service("hola_router", HOLA_CONFIG=str(file), **settings) as router:
        await router.event("serving")
        assert not await is_refused(client)
        tenants.write_text("[default]\nrequests = 1\n")
        file.write_text(f'tenants = "{tenants}"\nlog_level = "debug"\nmax_calls = 9\n')
        router.signal(signal.SIGHUP)
        told = await router.event("settings_reloaded")
        assert told["changed"] == ["HOLA_LOG_LEVEL"]
        assert told["at_next_start"] == ["HOLA_MAX_CALLS"]
        assert await is_refused(client)
        for bad in ("tenants = [", "log_level = 3", 'tenants = "/nowhere"'):
            file.write_text(bad)
            router.signal(signal.SIGHUP)
            assert (await router.event("settings_not_reloaded"))["why"]
        assert await is_refused(client), "the limit is as before"
        file.write_text(f'tenants = "{tenants}"\n')
        tenants.write_text("")
        router.signal(signal.SIGHUP)
        assert (await router.event("settings_reloaded"))["changed"] == ["HOLA_LOG_LEVEL"]
        assert not await is_refused(client)
        router.signal()
        assert await router.exit_code() == 0
    await client.close()


def test_a_flag_counts_more_than_the_environment() -> None:
    environ = {**os.environ, "HOLA_LISTEN": "unix:///nowhere/x.sock"}
    command = [sys.executable, "-m", "hola_compressor", "--listen", "no address"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("hola-compressor: 'no address' is not an address")
