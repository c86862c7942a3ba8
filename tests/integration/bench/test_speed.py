"""The speed benchmark, small: its form, its counters, and the verifier process it measures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from hola_bench.prompts import random_bytes
from hola_bench.speed import Options, run_on
from hola_bench.speed.wire import relay
from hola_cli.main import app

HEADLINE = {
    "scale_speculative_over_plain",
    "demo_speculative_over_plain",
    "overhead_ms_p50",
    "wire_bytes_per_token",
    "accepted_per_verify",
}


def options(**changes: object) -> Options:
    small = {"prompts": 2, "repeats": 2, "max_tokens": 12, "threads": 1, "rounds": 20, "steps": 5}
    return Options(models_dir="", model="scripted", scale="none", **{**small, **changes})


@pytest.mark.timeout(300)
def test_scripted_tiers_give_the_whole_form(scripted):
    report = run_on(scripted, None, random_bytes(2, seed=1), options())
    assert set(report.headline) == HEADLINE - {"scale_speculative_over_plain"}
    rows = report.details[f"{scripted.name}_methods"]
    assert {row["output_equal"] for row in rows} == {True}
    assert {"plain loop", "plain, k=0", "lookup+tiny+small", "small"} <= {
        row["method"] for row in rows
    }
    rates = [row["tokens_per_s"]["median"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert 0 < report.headline["overhead_ms_p50"] < 50
    assert 0 < report.headline["wire_bytes_per_token"] < 1000


@pytest.mark.timeout(300)
def test_a_scale_family_is_timed_beside_it(scripted):
    scale = replace(scripted, name="scale")
    report = run_on(scripted, scale, random_bytes(1, seed=1), options(repeats=1))
    assert set(report.headline) == HEADLINE
    assert report.details["scale"]["outputs_equal"]


@pytest.mark.timeout(300)
def test_the_command_on_the_demo_tiers(demo_models_dir):
    arguments = ["--prompts", "2", "--repeats", "1", "--max-tokens", "24", "--scale", "none"]
    found = CliRunner().invoke(
        app, ["bench", "speed", "--json", "--models-dir", demo_models_dir, *arguments]
    )
    assert found.exit_code == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["details"]["demo"]["outputs_equal"]
    assert {row["tier"] for row in report["details"]["draft_step"]} == {"draft", "mid"}
    assert report["details"]["wire"]["up_bytes"] > 0


async def test_the_relay_counts_both_directions():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data * 3)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, relay(port) as counted:
        host, _, relayed = counted.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(relayed))
        writer.write(b"12345")
        assert await reader.readexactly(15) == b"12345" * 3
        assert (counted.up_bytes, counted.down_bytes) == (5, 15)
        writer.close()
        assert await reader.read() == b""
