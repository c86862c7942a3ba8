"""Unix sockets in a folder: the network of a fleet whose links are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hola.errors import InvalidRequest
from hola_bench.chaos.schedule import Kind


class Sockets:
    """A `Network` without links that could be spoilt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def links(self) -> frozenset[Kind]:
        """None."""
        return frozenset()

    @property
    def notes(self) -> dict[str, str]:
        """What it is."""
        return {"network": "unix sockets"}

    async def place(self, name: str) -> None:
        """Nothing to make."""

    def listen(self, name: str) -> str:
        """A socket in the folder."""
        return f"unix://{self._folder}/{name}.sock"

    def reach(self, name: str, peer: str = "") -> str:
        """The same from everywhere."""
        return self.listen(name)

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """Nothing to enter."""
        return list(command)

    async def spoil(self, name: str, kind: Kind, amount: float) -> None:
        """Raises InvalidRequest."""
        raise InvalidRequest(f"unix sockets cannot {kind}", field="kind")

    async def heal(self, name: str) -> None:
        """Nothing to undo."""

    async def close(self) -> None:
        """The sockets go with their folder."""
