"""One request is one trace, over real gRPC, Redis and processes, and it holds nobody's text."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from hola import tracing
from hola.config import Settings
from hola.rpc.router_client import RouterClient
from hola.types import GenerateEvent, GenerateRequest, SamplingParams, Summary, Tokens
from tests.support.cluster import Cluster
from tests.support.scripted_system import text_of

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

MARKER = "Zanzibar"
PROMPT = f"Tell me of {MARKER} and of the sea."

Span = dict[str, Any]


@pytest.fixture
def cluster(tmp_path, start_redis):
    made = Cluster(folder=tmp_path, bus=start_redis().url)
    made.settings["HOLA_TRACE"] = f"file:{tmp_path}/spans.jsonl"
    made.settings |= {"HOLA_LOG_LEVEL": "info", "HOLA_LOG_FORMAT": "json"}
    made.settings["HOLA_JOB_IDLE_S"] = "1"
    yield made
    made.stop()


async def ask(cluster: Cluster, request_id: str, tokens: int, kill_at: int = 0):
    """A traced request's events; at `kill_at` tokens its drafter is killed and another started."""
    settings = Settings(trace=cluster.settings["HOLA_TRACE"], reattach_s=40, rpc_timeout_s=40)
    sampling = SamplingParams(max_tokens=tokens, temperature=0.8, seed=5)
    wanted = GenerateRequest(request_id=request_id, prompt=PROMPT, sampling=sampling)
    events: list[GenerateEvent] = []
    with tracing.exporting("client", settings):
        client = RouterClient(cluster.address("router"), settings)
        try:
            async with asyncio.timeout(90):
                async for event in client.generate(wanted):
                    events.append(event)
                    received = sum(len(e.tokens) for e in events if isinstance(e, Tokens))
                    if 0 < kill_at <= received and "drafter" in cluster.processes:
                        # What was measured before is in the file by now, or never will be.
                        await asyncio.sleep(1.2)
                        cluster.kill("drafter")
                        cluster.start("drafter", "heir")
        finally:
            await client.close()
    assert isinstance(events[-1], Summary)
    return events


def spans_of(cluster: Cluster) -> list[Span]:
    """What all processes wrote; ends them, so that nothing is missing."""
    for name in list(cluster.processes):
        cluster.terminate(name)
    lines = (cluster.folder / "spans.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def path_of(span: Span, by_id: dict[str, Span]) -> list[str]:
    """Service and name of a span and of everything above it, the root first."""
    path = [f"{span['service']}: {span['name']}"]
    while span["parent_id"]:
        span = by_id[span["parent_id"]]
        path.insert(0, f"{span['service']}: {span['name']}")
    return path


TO_THE_JOB = [
    "hola-client: text_completion",
    "hola-router: hola.v1.RouterService/Generate",
    "hola-router: send jobs",
    "hola-drafter: process jobs",
    "hola-drafter: generate scripted:seed=7,eos_bias=-1000",
]
TO_THE_ROUND = [
    *TO_THE_JOB,
    "hola-verifier: hola.v1.VerifierService/Verify",
    "hola-verifier: verify",
]


def check_text_is_left_out(spans: list[Span], events: list[GenerateEvent]) -> None:
    text = json.dumps(spans)
    written = text_of(events)
    assert MARKER not in text
    words = {word for word in written.split() if len(word) > 6}
    assert words, "the model wrote nothing that could be looked for"
    assert not [word for word in words if word in text]


def check_logs_have_the_ids(cluster: Cluster, spans: list[Span]) -> None:
    (line,) = (
        json.loads(line)
        for line in cluster.log("verifier").splitlines()
        if '"session_closed"' in line
    )
    assert (line["request_id"], line["session_id"]) == ("r1", "r1")
    assert line["trace_id"] == spans[0]["trace_id"]
    assert line["span_id"] in {span["span_id"] for span in spans}


async def test_one_request_is_one_trace_with_every_hop(cluster):
    await cluster.up()
    events = await ask(cluster, "r1", 40)
    spans = spans_of(cluster)
    by_id = {span["span_id"]: span for span in spans}
    assert len({span["trace_id"] for span in spans}) == 1
    assert len([span for span in spans if not span["parent_id"]]) == 1
    paths = [path_of(span, by_id) for span in spans]
    assert TO_THE_ROUND in paths
    assert [*TO_THE_JOB, "hola-drafter: draft"] in paths
    assert [*TO_THE_JOB, "hola-drafter: open session"] in paths
    assert [*TO_THE_JOB[:-1], "hola-drafter: send journal"] in paths
    summary = events[-1]
    assert isinstance(summary, Summary)
    for name in ("verify", "verify round"):
        assert sum(span["name"] == name for span in spans) == summary.rounds
    root = next(span for span in spans if not span["parent_id"])
    assert root["attributes"]["gen_ai.usage.output_tokens"] == 40
    assert root["attributes"]["gen_ai.response.finish_reasons"] == ["length"]
    assert all(span["end_unix_ns"] >= span["start_unix_ns"] for span in spans)
    check_text_is_left_out(spans, events)
    check_logs_have_the_ids(cluster, spans)


async def test_a_takeover_stays_in_the_trace(cluster):
    await cluster.up()
    events = await ask(cluster, "r3", 1500, kill_at=40)
    spans = spans_of(cluster)
    assert len({span["trace_id"] for span in spans}) == 1
    jobs = [span for span in spans if span["name"] == "process jobs"]
    assert [(span["instance"], span["attributes"]["hola.attempt"]) for span in jobs] == [
        ("heir", 2)
    ]
    by_id = {span["span_id"]: span for span in spans}
    whole = [s for s in spans if s["instance"] != "drafter" and s["service"] != "hola-verifier"]
    paths = [path_of(span, by_id) for span in whole]
    assert [*TO_THE_JOB, "hola-drafter: verify round"] in paths
    assert {span["name"] for span in spans if span["instance"] == "drafter"} >= {"verify round"}
    taken_over = next(span for span in spans if span["name"].startswith("generate"))
    assert taken_over["attributes"]["hola.tokens_before"] >= 40
    check_text_is_left_out(spans, events)


async def test_what_a_stranger_sends_as_a_parent_does_no_harm(tmp_path: Path):
    with tracing.exporting("router", Settings(trace=f"file:{tmp_path}/spans.jsonl")):
        for parent in ("", "x", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" * 5000, "\x00"):
            tracing.begin("call", parent=parent).end()
        begun = tracing.begin("call", parent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
        begun.end()
    spans = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert [span["parent_id"] for span in spans] == [""] * 5 + ["b" * 16]
    assert spans[-1]["trace_id"] == "a" * 32


@pytest.mark.slow
def test_the_time_to_end_is_bounded_when_the_collector_is_away():
    began = time.monotonic()
    with tracing.exporting("router", Settings(trace="otlp://127.0.0.1:9")), tracing.span("call"):
        pass
    assert time.monotonic() - began < 60
