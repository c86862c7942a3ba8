"""Every Prometheus series of HOLA, and the small HTTP server that shows them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from hola import __version__
from hola.device import DeviceCollector
from hola.errors import ConfigError

# Buckets. Engine passes and calls: from half a millisecond (a small tier) to a long prefill.
PASS_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# The parts of one round: the wire's and the commit's are tenths of a millisecond on loopback.
STAGE_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
)  # fmt: skip
# From a cached prompt on a small model to a minute in the queue; what people wait for.
FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 3, 5, 10, 20, 40, 60)
# 2,000 tokens a second to one in 2.5 s: a board of four cores is in the middle.
TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
# An entry per round: from an answer in one word to the longest requests.
ENTRIES = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """Every series on one registry. One per process; each service moves its own.

    Labels have few values each: services, outcomes and stages of the code, tiers of a family,
    methods of the contract, positions in a block (64), sensors of the machine. No id and no tenant.
    Where a series means what one of vLLM's does, it has that one's name behind the prefix.
    """

    def __init__(self, service: str = "", *, registry: CollectorRegistry | None = None) -> None:
        """With the name of a `service` the process and its device are measured as well."""
        # A gauge per counter with its birth would double what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        where: dict[str, Any] = {"registry": self.registry}
        self._of_every_server(where)
        self._of_requests(where)
        self._of_speculation(where)
        self._of_verifiers(where)
        self._of_drafters(where)
        self._of_retrieval(where)
        self.compressions = Counter(
            "hola_compressions", "Ended compression jobs", ["outcome"], **where
        )
        if service:
            self.build_info.labels(__version__, service, platform.python_version()).set(1)
            ProcessCollector(registry=self.registry)
            self.registry.register(DeviceCollector())

    def count_block(self, drafted: int, accepted: int) -> None:
        """A verified block: tokens drafted and accepted. Plain decoding drafts none."""
        if drafted:
            self.drafts.inc()
            self.draft_tokens.inc(drafted)
            self.accepted_tokens.inc(accepted)
        for position in range(accepted):
            self.accepted_at.labels(position).inc()

    def _of_every_server(self, where: dict[str, Any]) -> None:
        self.build_info = Gauge(
            "hola_build_info", "1; what runs", ["version", "service", "python"], **where
        )
        self.rpcs = Counter("hola_rpcs", "Finished calls", ["method", "code"], **where)
        self.rpc_seconds = Histogram(
            "hola_rpc_seconds", "Time of a call", ["method"], buckets=PASS_SECONDS, **where
        )
        self.config_reloads = Counter(
            "hola_config_reloads", "Reloads of settings: done, refused", ["outcome"], **where
        )
        # From 0 on: a counter that appears with 1 has not grown, to Prometheus.
        for outcome in ("done", "refused"):
            self.config_reloads.labels(outcome)

    def _of_requests(self, where: dict[str, Any]) -> None:
        self.requests = Counter("hola_requests", "Ended requests", ["service", "outcome"], **where)
        self.requests_running = Gauge(
            "hola_num_requests_running", "Requests running now", ["service"], **where
        )
        self.requests_waiting = Gauge(
            "hola_num_requests_waiting", "Jobs on the bus that no drafter has taken yet", **where
        )
        self.jobs_taken = Gauge(
            "hola_jobs_taken", "Jobs on the bus that a drafter has taken and not ended", **where
        )
        self.dead_letters = Gauge("hola_dead_letters", "Jobs that were given up, kept", **where)
        self.time_to_first_token = Histogram(
            "hola_time_to_first_token_seconds",
            "From acceptance at the router to the first token, seen at the service",
            ["service"],
            buckets=FIRST_TOKEN_SECONDS,
            **where,
        )
        self.request_latency = Histogram(
            "hola_e2e_request_latency_seconds",
            "From acceptance to the end of a request that was not cut short",
            ["service"],
            buckets=REQUEST_SECONDS,
            **where,
        )

    def _of_speculation(self, where: dict[str, Any]) -> None:
        self.drafts = Counter("hola_spec_decode_num_drafts", "Blocks with draft tokens", **where)
        self.draft_tokens = Counter(
            "hola_spec_decode_num_draft_tokens", "Draft tokens verified", **where
        )
        self.accepted_tokens = Counter(
            "hola_spec_decode_num_accepted_tokens", "Draft tokens accepted", **where
        )
        self.accepted_at = Counter(
            "hola_spec_decode_num_accepted_tokens_per_pos",
            "Draft tokens accepted, by their position in the block from 0",
            ["position"],
            **where,
        )
        self.tier_tokens = Counter(
            "hola_tier_tokens",
            "Tokens that a tier of the ladder proposed first, and those that held",
            ["tier", "outcome"],
            **where,
        )

    def _of_verifiers(self, where: dict[str, Any]) -> None:
        timed = {**where, "buckets": PASS_SECONDS}
        self.queue_depth = Gauge(
            "hola_verifier_queue_depth", "Blocks and prefill chunks waiting", **where
        )
        self.sessions = Gauge("hola_verifier_sessions", "Sessions with a KV cache", **where)
        self.kv_bytes = Gauge("hola_verifier_kv_bytes", "KV cache allocated, bytes", **where)
        self.kv_usage = Gauge(
            "hola_kv_cache_usage_perc", "Part of the KV cache's budget allocated, 0 to 1", **where
        )
        self.prefill_seconds = Histogram(
            "hola_prefill_seconds", "Engine time of a prefill", **timed
        )
        self.verify_seconds = Histogram("hola_verify_seconds", "Engine time of a block", **timed)
        self.verify_queue_seconds = Histogram(
            "hola_verify_queue_seconds", "Wait of a block for other sessions", **timed
        )
        self.sessions_closed = Counter(
            "hola_verifier_sessions_closed",
            "Sessions freed: done, idle, evicted, moved",
            ["why"],
            **where,
        )
        self.draining = Gauge(
            "hola_verifier_draining", "1 while it hands its sessions over", **where
        )

    def _of_drafters(self, where: dict[str, Any]) -> None:
        self.inter_token_latency = Histogram(
            "hola_inter_token_latency_seconds",
            "Time per token after the first; those of one round share its time equally",
            buckets=TOKEN_SECONDS,
            **where,
        )
        self.prompt_tokens = Counter("hola_prompt_tokens", "Prompt tokens of requests", **where)
        self.committed_tokens = Counter(
            "hola_committed_tokens", "Output tokens by outcome", ["outcome"], **where
        )
        self.stage_seconds = Histogram(
            "hola_round_stage_seconds",
            "Parts of a round: draft, wire, queue, verify, commit",
            ["stage"],
            buckets=STAGE_SECONDS,
            **where,
        )
        self.draft_seconds = Histogram(
            "hola_draft_seconds", "Time of a ladder's proposal", buckets=PASS_SECONDS, **where
        )
        self.gate_decisions = Counter(
            "hola_gate_decisions",
            "retrieval: how deep, for requests that ask; entropy: what it left of a wanted draft",
            ["gate", "decision"],
            **where,
        )
        self.journal_entries = Histogram(
            "hola_journal_entries", "Entries of an ended journal", buckets=ENTRIES, **where
        )
        self.reconnects = Counter("hola_reconnects", "Verifier sessions opened again", **where)
        self.corrections = Counter(
            "hola_corrections", "Ends of unverified text: confirmed or taken back", **where
        )
        self.pool_addresses = Gauge(
            "hola_pool_addresses", "Verifier addresses by state", ["state"], **where
        )
        self.failovers = Counter(
            "hola_failovers", "Sessions that went on at another verifier", **where
        )
        self.takeovers = Counter(
            "hola_job_takeovers", "Jobs that another drafter had begun", **where
        )
        self.hedges = Counter("hola_hedges", "Second questions: won, lost", ["outcome"], **where)
        self.breaker_opens = Counter(
            "hola_breaker_opens", "Verifier addresses left alone for a while", **where
        )

    def _of_retrieval(self, where: dict[str, Any]) -> None:
        timed = {**where, "buckets": PASS_SECONDS}
        self.retrieval_search_seconds = Histogram(
            "hola_retrieval_search_seconds", "Time of a request's searches", **timed
        )
        self.retrieval_gate_seconds = Histogram(
            "hola_retrieval_gate_seconds", "Time of a draft answer and its check", **timed
        )
        self.search_seconds = Histogram("hola_search_seconds", "Time of a Search call", **timed)
        self.ingests = Counter(
            "hola_ingests", "Ended ingests: done, failed, cancelled, lost", ["outcome"], **where
        )
        self.ingested_documents = Counter(
            "hola_ingested_documents", "Documents by outcome", ["outcome"], **where
        )
        self.active_ingests = Gauge(
            "hola_active_ingests", "Ingests under way here: call, job", ["kind"], **where
        )
        self.ingest_spool_bytes = Gauge(
            "hola_ingest_spool_bytes", "Files of ingests that have not ended, bytes", **where
        )


@asynccontextmanager
async def serve_metrics(listen: str, metrics: Metrics) -> AsyncIterator[int]:
    """Serve /metrics on "host:port" inside the context; gives the port in use (0 asks for any).

    An empty `listen` serves nothing and gives 0. Raises ConfigError when it cannot be bound.
    """
    if not listen:
        yield 0
        return
    host, port = metrics_address(listen)
    try:
        server, thread = start_http_server(port, host, registry=metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics on {listen}: {error}", variable="HOLA_METRICS_LISTEN"
        ) from error
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def metrics_address(listen: str) -> tuple[str, int]:
    """Host and port of HOLA_METRICS_LISTEN. Raises ConfigError unless it is "host:port"."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"HOLA_METRICS_LISTEN={listen!r} is not valid: expected host:port",
            variable="HOLA_METRICS_LISTEN",
            value=listen,
        )
    return host.strip("[]"), int(port)
