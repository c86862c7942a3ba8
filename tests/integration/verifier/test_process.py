"""`python -m hola_verifier` as a process: what it needs, what it says, how it ends."""

from __future__ import annotations

import asyncio
import signal
import urllib.request
from pathlib import Path

import pytest

from hola.config import Settings
from hola.engines.scripted import ScriptedTokenizer
from hola.errors import SessionLost, SessionMoved
from hola.ports import VerifierLink
from hola.rpc.verifier_client import GrpcVerifier
from hola.types import DraftBlock, Open, SamplingParams
from tests.support.process import SCRIPTED, ServiceProcess, running_service
from tests.support.verifier import ask, plain

OPEN = Open(
    session_id="s1",
    model=SCRIPTED,
    tokenizer_fingerprint=ScriptedTokenizer().fingerprint,
    prompt=(1, 2, 3),
    sampling=SamplingParams(max_tokens=500),
)


async def session_at(process: ServiceProcess) -> tuple[GrpcVerifier, VerifierLink]:
    serving = await process.event("serving")
    port = GrpcVerifier(serving["address"], Settings())
    link = await port.connect()
    await ask(link, OPEN)
    return port, link


async def failed(**settings: str) -> tuple[int, str]:
    """Exit code and output of a verifier that must not come up."""
    async with running_service("hola_verifier", **settings) as process:
        code = await process.exit_code()
    return code, "".join(str(entry.get("text", "")) for entry in process.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_moves_the_sessions_and_ends_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Long before HOLA_DRAIN_S, which is longer than the test's own patience."""
    listen = f"unix://{tmp_path}/v.sock"
    async with running_service(
        "hola_verifier", HOLA_MODEL=SCRIPTED, HOLA_LISTEN=listen, HOLA_DRAIN_S="600"
    ) as process:
        port, link = await session_at(process)
        await plain(link, 3)
        process.signal(number)
        with pytest.raises(SessionMoved):
            await link.receive()
        assert await process.exit_code() == 0
        await port.close()
    assert process.log[-1]["event"] == "stopped"


async def test_a_killed_verifier_is_a_lost_session_at_once(tmp_path: Path) -> None:
    async with running_service(
        "hola_verifier", HOLA_MODEL=SCRIPTED, HOLA_LISTEN="127.0.0.1:0"
    ) as process:
        port, link = await session_at(process)
        receiving = asyncio.create_task(link.receive())
        await asyncio.sleep(0)
        process.signal(signal.SIGKILL)
        async with asyncio.timeout(10):
            with pytest.raises(SessionLost):
                await receiving
        await port.close()


async def test_a_verifier_that_stands_still_is_found_out(tmp_path: Path) -> None:
    """As behind a cable that was pulled: the connection stays, nobody answers."""
    async with running_service(
        "hola_verifier", HOLA_MODEL=SCRIPTED, HOLA_LISTEN="127.0.0.1:0"
    ) as process:
        serving = await process.event("serving")
        port = GrpcVerifier(serving["address"], Settings(keepalive_s=1))
        link = await port.connect()
        await ask(link, OPEN)
        process.signal(signal.SIGSTOP)
        async with asyncio.timeout(15):
            with pytest.raises(SessionLost):
                await link.receive()
        process.signal(signal.SIGCONT)
        await port.close()


async def test_metrics_are_served_beside(tmp_path: Path) -> None:
    async with running_service(
        "hola_verifier",
        HOLA_MODEL=SCRIPTED,
        HOLA_LISTEN=f"unix://{tmp_path}/v.sock",
        HOLA_METRICS_LISTEN="127.0.0.1:0",
    ) as process:
        metrics = await process.event("metrics")
        port, link = await session_at(process)
        await ask(link, DraftBlock(round=1, base_position=0, tokens=(1, 2)))
        url = f"http://127.0.0.1:{metrics['port']}/metrics"
        text = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
        assert "hola_spec_decode_num_draft_tokens_total 2.0" in text
        assert "hola_verifier_sessions 1.0" in text
        assert 'hola_verify_seconds_bucket{le="30.0"} 1.0' in text
        await port.close()
        process.signal()
        assert await process.exit_code() == 0


async def test_an_unknown_setting_ends_it_with_the_nearest_name() -> None:
    code, output = await failed(HOLA_MODLE="demo")
    assert code == 2
    assert output == (
        "hola-verifier: unknown setting HOLA_MODLE: did you mean HOLA_MODEL?"
        " `hola config show --all` lists them\n"
    )


async def test_a_missing_model_ends_it_with_one_line(tmp_path: Path) -> None:
    code, output = await failed(
        HOLA_MODEL="nothing",
        HOLA_LISTEN=f"unix://{tmp_path}/v.sock",
        HOLA_MODELS_DIR=str(tmp_path),
    )
    assert (code, output.count("\n")) == (3, 1), output
    assert output.startswith("hola-verifier: ")
    assert "'nothing'" in output
