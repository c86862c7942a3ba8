"""Whose turn it is: the tenant with the fewest running jobs, then the one longest not served."""

from __future__ import annotations

from collections.abc import Mapping


class Turns:
    """The tenants that have jobs, in the order they were served.

    A newcomer comes before whoever was served last, and after everyone who waits longer; so a
    tenant that sends one job at a time neither starves nor jumps the queue.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._count = 0

    def arrive(self, tenant: str) -> None:
        """A job of the tenant was queued."""
        self._served.setdefault(tenant, self._count - 0.5)

    def serve(self, tenant: str) -> None:
        """A job of the tenant was delivered."""
        self._count += 1
        self._served[tenant] = self._count

    def leave(self, tenant: str) -> None:
        """The tenant has no job any more."""
        self._served.pop(tenant, None)

    def order(self, running: Mapping[str, int]) -> list[str]:
        """All tenants, the next one first; `running` counts the jobs a tenant has delivered."""
        return sorted(
            self._served, key=lambda tenant: (running.get(tenant, 0), self._served[tenant], tenant)
        )
