"""Where the processes of a fleet live and what can be done to the way between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hola_bench.chaos.schedule import Kind


class Network(Protocol):
    """Places for processes, one for each name, joined by links that can be spoilt."""

    @property
    def links(self) -> frozenset[Kind]:
        """Which of CUT, LOSE and DELAY it can do."""
        ...

    @property
    def notes(self) -> dict[str, str]:
        """What it is, and why it cannot do what it cannot do."""
        ...

    async def place(self, name: str) -> None:
        """Make a place. Raises HolaError when the system refuses."""
        ...

    def listen(self, name: str) -> str:
        """The address a service there is told to listen on; "unix:///path" or "host:port"."""
        ...

    def reach(self, name: str, peer: str = "") -> str:
        """The address by which `peer` reaches `name`; "" is a client."""
        ...

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` there."""
        ...

    async def spoil(self, name: str, kind: Kind, amount: float) -> None:
        """Cut a place off, lose a share of its packets, or delay them by up to seconds."""
        ...

    async def heal(self, name: str) -> None:
        """Undo `spoil`. Idempotent."""
        ...

    async def close(self) -> None:
        """Remove every place. Idempotent."""
        ...
