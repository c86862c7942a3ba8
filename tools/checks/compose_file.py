"""docker-compose.yml as processes on one machine: order, commands, addresses on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.checks.report import REPO

COMPOSE = REPO / "docker-compose.yml"


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the file."""

    name: str
    entry: dict[str, Any]

    @property
    def needs(self) -> tuple[str, ...]:
        """Services that must be healthy before this one starts."""
        return tuple(self.entry.get("depends_on", ()))

    @property
    def ours(self) -> bool:
        """Whether it is one of HOLA's."""
        return str(self.entry["image"]).startswith("hola-")


def services(*profiles: str) -> dict[str, Service]:
    """The file's services, less those of other profiles."""
    document = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return {
        name: Service(name, entry)
        for name, entry in document["services"].items()
        if set(entry.get("profiles", profiles)) <= set(profiles)
    }


def start_order(found: dict[str, Service]) -> list[Service]:
    """Dependencies first; compose stops in the opposite order. Raises ValueError on a circle."""
    order: list[Service] = []
    waiting = dict(found)
    while waiting:
        ready = [one for one in waiting.values() if not set(one.needs) & waiting.keys()]
        if not ready:
            raise ValueError(f"these wait for each other: {', '.join(waiting)}")
        order += ready
        for one in ready:
            del waiting[one.name]
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """Where (service, port) of the file's network is on this machine, and where its files are."""

    ports: dict[tuple[str, int], int]
    files: dict[str, str]

    def text(self, service: str, text: str) -> str:
        """`text` of one service with addresses and files of this machine."""
        text = re.sub(
            r"([a-z][a-z0-9-]*|0\.0\.0\.0|127\.0\.0\.1):(\d{4,5})",
            lambda match: self._address(service, match[1], int(match[2]), match[0]),
            text,
        )
        for inside, here in self.files.items():
            if text == inside or text.startswith(f"{inside}/"):
                return here + text.removeprefix(inside)
        return text

    def _address(self, service: str, host: str, port: int, whole: str) -> str:
        owner = service if host in ("0.0.0.0", "127.0.0.1") else host
        here = self.ports.get((owner, port))
        return whole if here is None else f"127.0.0.1:{here}"


def used_ports(found: dict[str, Service]) -> Iterator[tuple[str, int]]:
    """(service, port) of everything that listens."""
    for name, one in found.items():
        if not one.ours:
            yield name, 6379
            continue
        for variable in ("HOLA_LISTEN", "HOLA_METRICS_LISTEN", "HOLA_HEALTH_LISTEN"):
            yield name, int(one.entry["environment"][variable].rpartition(":")[2])


def health_command(dockerfile: Path) -> list[str]:
    """The HEALTHCHECK of our images."""
    import json

    text = dockerfile.read_text("utf-8")
    (found,) = re.findall(r"^HEALTHCHECK (?:.*\\\n)*\s+CMD (\[.*\])$", text, re.MULTILINE)
    return [str(word) for word in json.loads(found)]
