"""Metrics can be read over HTTP, and only while the service runs."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from hola.errors import ConfigError
from hola.telemetry import Metrics, serve_metrics


async def test_metrics_are_served() -> None:
    metrics = Metrics()
    metrics.accepted_tokens.inc(3)
    metrics.verify_seconds.observe(0.004)
    async with serve_metrics("127.0.0.1:0", metrics) as port:
        assert port > 0
        text = await asyncio.to_thread(_get, port)
    assert "hola_spec_decode_num_accepted_tokens_total 3.0" in text
    assert 'hola_verify_seconds_bucket{le="0.005"} 1.0' in text
    assert "hola_verifier_queue_depth 0.0" in text
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_get, port)


async def test_without_an_address_nothing_is_served() -> None:
    async with serve_metrics("", Metrics()) as port:
        assert port == 0


@pytest.mark.parametrize("listen", ["9100", "host:", ":9100", "127.0.0.1:x", "127.0.0.1:70000"])
async def test_a_malformed_metrics_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOLA_METRICS_LISTEN"):
        async with serve_metrics(listen, Metrics()):
            raise AssertionError("must not serve")


async def test_a_taken_metrics_port_is_a_clear_error() -> None:
    async with serve_metrics("127.0.0.1:0", Metrics()) as port:
        with pytest.raises(ConfigError, match="cannot serve metrics"):
            async with serve_metrics(f"127.0.0.1:{port}", Metrics()):
                raise AssertionError("must not serve")


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text
