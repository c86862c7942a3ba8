"""`hola top`: the fleet on one screen, read from the services' metrics and the bus's registry."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hola.errors import BusUnavailable, ConfigError, ServiceUnavailable
from hola_cli.fleet_view import Labels, Look, ServiceRow, row_of
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption
from hola_cli.said import said

if TYPE_CHECKING:
    from hola.types import VerifierRecord

MOST_BYTES = 8 * 1024 * 1024
TIMEOUT_S = 2.0


def command(
    endpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST:PORT]...",
            help="Metrics addresses of services. Default: HOLA_METRICS_LISTEN, on this machine.",
        ),
    ] = None,
    bus: Annotated[
        str | None,
        typer.Option(
            "--bus",
            metavar="URL",
            help="Also show the verifiers registered here. Default: HOLA_BUS, else none.",
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option("--interval", "-i", metavar="SECONDS", min=0.1, help="Between two looks."),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, end.")] = False,
    json: JsonOption = False,
) -> None:
    """Watch a fleet: load, tokens per second, acceptance, latencies, failures.

    Ctrl-C ends it. With `--once` it ends with 6 when no service answers.

    Examples:

    `hola top localhost:9090`

    `hola top router:9101 edge-1:9102 edge-2:9102 node:9103 --bus redis://redis:6379/0`

    `hola top localhost:9090 --once --json`
    """
    where = list(endpoints or []) or [own_endpoint()]
    fleet = Fleet(where, bus or said("HOLA_BUS"))
    if not once:
        asyncio.run(_watch(fleet, interval, json))
        return
    picture = asyncio.run(_once(fleet, interval))
    _print(picture, json)
    if all(row.error for row in picture.services):
        raise ServiceUnavailable(f"no metrics at {', '.join(where)}: {picture.services[0].error}")


def own_endpoint() -> str:
    """Where this machine's service shows its metrics. Raises ConfigError when that is not set."""
    listen = said("HOLA_METRICS_LISTEN")
    if not listen:
        raise ConfigError(
            "no metrics address: name some (`hola top localhost:9090`), or set HOLA_METRICS_LISTEN",
            variable="HOLA_METRICS_LISTEN",
        )
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One screen."""

    services: Sequence[ServiceRow]
    verifiers: Sequence[VerifierRecord]
    registry_error: str = ""


class Fleet:
    """Looks at the endpoints, and at the registry where there is a bus."""

    def __init__(self, endpoints: Sequence[str], bus: str) -> None:
        self._endpoints = endpoints
        self._bus = "" if bus == "memory:" else bus
        self._before: dict[str, Look] = {}

    async def look(self) -> Picture:
        """Everything as it is now, with rates since the look before."""
        looks = await asyncio.gather(*(scrape(each) for each in self._endpoints))
        rows = [row_of(self._before.get(look.endpoint, look), look) for look in looks]
        self._before = {look.endpoint: look for look in looks}
        try:
            return Picture(services=rows, verifiers=await self._registered())
        except BusUnavailable as error:
            return Picture(services=rows, verifiers=(), registry_error=error.message)

    async def _registered(self) -> Sequence[VerifierRecord]:
        if not self._bus:
            return ()
        import os

        from hola.bus.from_settings import bus_from
        from hola.config import load_settings

        bus = await bus_from(load_settings(os.environ, {"HOLA_BUS": self._bus}))
        try:
            return sorted(await bus.registry.verifiers(), key=lambda record: record.address)
        finally:
            await bus.close()


async def scrape(endpoint: str) -> Look:
    """One look at a /metrics; what goes wrong is in the look."""
    try:
        text = await asyncio.to_thread(_fetch, endpoint)
        return Look(endpoint=endpoint, at_s=time.monotonic(), samples=parse(text))
    except (OSError, ValueError) as error:
        why = str(getattr(error, "reason", "") or error)
        return Look(endpoint=endpoint, at_s=time.monotonic(), error=why or type(error).__name__)


def parse(text: str) -> dict[tuple[str, Labels], float]:
    """The samples of a page in Prometheus's text format. Raises ValueError."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _fetch(endpoint: str) -> str:
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=TIMEOUT_S) as answer:
        page: bytes = answer.read(MOST_BYTES + 1)
    if len(page) > MOST_BYTES:
        raise ValueError(f"the page has more than {MOST_BYTES} bytes")
    return page.decode("utf-8")


async def _once(fleet: Fleet, interval_s: float) -> Picture:
    await fleet.look()
    await asyncio.sleep(interval_s)
    return await fleet.look()


async def _watch(fleet: Fleet, interval_s: float, json: bool) -> None:
    picture = await fleet.look()
    if json:
        while True:
            await asyncio.sleep(interval_s)
            _print(await fleet.look(), json)
    with Live(screen_of(picture), auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(interval_s)
            live.update(screen_of(await fleet.look()), refresh=True)


def _print(picture: Picture, json: bool) -> None:
    if json:
        dump(picture)
    else:
        Console(highlight=False).print(screen_of(picture))


def screen_of(picture: Picture) -> Group:
    """The picture as tables."""
    parts: list[Any] = [_head(picture), _services(picture.services)]
    if picture.verifiers:
        parts.append(_verifiers(picture.verifiers))
    if picture.registry_error:
        parts.append(Text(f"registry: {picture.registry_error}", style="red"))
    return Group(*parts, *_failures(picture.services))


def _failures(rows: Sequence[ServiceRow]) -> list[Text]:
    """A line per service that has some, since it started, or does not answer."""
    lines = []
    for row in rows:
        if row.error:
            lines.append(Text(f"no metrics at {row.endpoint}: {row.error}", style="red"))
        if row.failures:
            counts = ", ".join(f"{outcome} {n}" for outcome, n in sorted(row.failures.items()))
            lines.append(Text(f"failed at {row.service or row.endpoint}: {counts}", style="yellow"))
    return lines


def _head(picture: Picture) -> Text:
    up = sum(not row.error for row in picture.services)
    tokens = sum(row.tokens_per_s or 0.0 for row in picture.services)
    waiting = max((row.waiting or 0 for row in picture.services), default=0)
    line = Text("hola top  ", style="bold")
    line.append(
        f"{up}/{len(picture.services)} services up, {waiting} waiting, {tokens:.1f} tokens/s"
    )
    return line


def _services(rows: Sequence[ServiceRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service")
    table.add_column("at")
    for name in ("run", "wait", "tok/s", "accept", "ttft", "itl", "kv", "queue", "fail/s", "over"):
        table.add_column(name, justify="right")
    table.add_column("device", justify="right")
    for row in rows:
        if row.error:
            table.add_row(Text("down", style="red"), escape(row.endpoint))
            continue
        table.add_row(
            escape(f"{row.service} {row.version}"),
            escape(row.endpoint),
            str(row.running),
            _number(row.waiting),
            _number(row.tokens_per_s, "{:.1f}"),
            _number(row.acceptance, "{:.0%}"),
            _number(row.first_token_s, "<{:g} s"),
            _number(row.inter_token_s, "<{:g} s"),
            _number(row.kv_share, "{:.0%}"),
            _number(row.queue_depth),
            _number(row.failures_per_s, "{:.2f}"),
            str(row.failovers),
            " ".join(filter(None, (_some(row.celsius, "{:.0f}°C"), _some(row.watts, "{:.1f} W")))),
        )
    return table


def _verifiers(records: Sequence[VerifierRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verifier")
    table.add_column("model")
    for name in ("sessions", "queue", "kv", ""):
        table.add_column(name, justify="right")
    for record in records:
        info = record.info
        share = info.kv_bytes / info.kv_budget_bytes if info.kv_budget_bytes else 0.0
        table.add_row(
            escape(record.address),
            escape(info.model),
            str(info.active_sessions),
            str(info.queue_depth),
            f"{share:.0%}",
            Text("draining", style="yellow") if info.draining else "",
        )
    return table


def _number(value: float | None, form: str = "{}") -> str:
    return "-" if value is None else form.format(value)


def _some(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
