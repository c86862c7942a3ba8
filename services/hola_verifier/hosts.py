"""The targets of one verifier: the one that new sessions get, and older ones until they are empty.

A session is bound to the host it was opened at, so its tokens come from one artifact. Whoever comes
back with a session goes where that session, or at least its numerics, still are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hola.telemetry import Metrics, get_logger
from hola.types import Open
from hola_verifier.door import Door
from hola_verifier.host import VerifierHost

log = get_logger(__name__)

_LOOK_S = 0.2

Free = Callable[[], Awaitable[None]]


class Hosts:
    """One current host and those that retire. Use from one event loop.

    Each comes with what lets go of its engine and thread; `Hosts` calls that once it is closed.
    """

    def __init__(
        self, first: VerifierHost, free: Free | None = None, metrics: Metrics | None = None
    ) -> None:
        """Without `free` the first host's engine and thread are somebody else's."""
        metrics = metrics or Metrics()
        self.current = first
        self._free = free
        self._older: dict[VerifierHost, asyncio.Task[None]] = {}
        metrics.queue_depth.set_function(lambda: sum(host.depth for host in self.all))
        metrics.sessions.set_function(lambda: sum(host.sessions for host in self.all))
        metrics.kv_bytes.set_function(lambda: sum(host.info().kv_bytes for host in self.all))
        metrics.kv_usage.set_function(
            lambda: max(
                host.info().kv_bytes / max(1, host.info().kv_budget_bytes) for host in self.all
            )
        )
        metrics.draining.set_function(lambda: self.door.draining)

    @property
    def all(self) -> tuple[VerifierHost, ...]:
        """The current one first."""
        return (self.current, *self._older)

    @property
    def door(self) -> Door:
        """The one door of them all."""
        return self.current.door

    def choose(self, request: Open) -> VerifierHost:
        """Where a session is opened.

        The host that has the session; else one of the numerics that its output was begun with;
        else the current one, which says for itself whether it may go on with it.
        """
        if request.committed or request.required_fingerprint:
            for host in self.all:
                if host.has(request):
                    return host
            for host in self.all:
                if host.fingerprint and host.fingerprint == request.required_fingerprint:
                    return host
        return self.current

    def swap(self, host: VerifierHost, free: Free, *, kept_s: float) -> None:
        """New sessions get `host`; the one before goes when it is empty, and kept_s have passed.

        A session that lost its verifier elsewhere may want the old numerics until then.
        """
        old, self.current = self.current, host
        free_old, self._free = self._free, free
        self._older[old] = asyncio.create_task(self._retire(old, free_old, kept_s))

    async def close(self, timeout_s: float) -> None:
        """Close the older hosts at once, then the current one. Idempotent."""
        tasks = list(self._older.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.current.close(timeout_s)
        free, self._free = self._free, None
        if free is not None:
            await free()

    async def _retire(self, host: VerifierHost, free: Free | None, kept_s: float) -> None:
        try:
            await asyncio.sleep(kept_s)
            while host.sessions:  # noqa: ASYNC110 - sessions end in many places
                await asyncio.sleep(_LOOK_S)
        finally:
            self._older.pop(host, None)
            await host.close()
            if free is not None:
                await free()
            log.info("target_retired", fingerprint=host.fingerprint)
