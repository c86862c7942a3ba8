"""SIGHUP: takes up the settings a running process may change; wrong ones change nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from hola.config import Settings, variables
from hola.errors import HolaError
from hola.telemetry import Metrics, configure_logging, get_logger

log = get_logger(__name__)

LOGGING = {"HOLA_LOG_LEVEL", "HOLA_LOG_FORMAT"}
RELOADED = tuple(row.name for row in variables() if row.reload == "SIGHUP")


@runtime_checkable
class Reloadable(Protocol):
    """A part of a service that follows changed settings."""

    def reload(self, settings: Settings) -> None:
        """Take them up. Raises ConfigError; everything is as before then."""
        ...


class Reloader:
    """Reads the settings again, on demand, and hands the reloadable ones on."""

    def __init__(
        self,
        service: str,
        settings: Settings,
        read: Callable[[], Settings],
        part: object,
        metrics: Metrics,
    ) -> None:
        """`read` gives the settings anew; `part` gets them where it is Reloadable.

        `settings` are those the process runs with, defaults filled in. Raises as `read`.
        """
        self._service = service
        self._settings = settings
        self._first = read()
        self._read = read
        self._part = part
        self._metrics = metrics

    def listen(self) -> None:
        """Reload on SIGHUP. Needs the main thread's running event loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read and apply; the log says what changed, what waits for a restart, or what is wrong."""
        try:
            read = self._read()
            wanted = merged(self._settings, read)
            if isinstance(self._part, Reloadable):
                self._part.reload(wanted)
        except HolaError as error:
            self._metrics.config_reloads.labels("refused").inc()
            log.error("settings_not_reloaded", why=error.message)
            return
        changed = differing(self._settings, wanted)
        if LOGGING & set(changed):
            configure_logging(self._service, wanted)
        waiting = [name for name in differing(self._first, read) if name not in RELOADED]
        self._settings = wanted
        self._metrics.config_reloads.labels("done").inc()
        log.info("settings_reloaded", changed=changed, at_next_start=waiting)


def merged(running: Settings, read: Settings) -> Settings:
    """What runs, with the values just read of those settings that SIGHUP may change."""
    fields = [row.field for row in variables() if row.name in RELOADED]
    return running.model_copy(update={field: getattr(read, field) for field in fields})


def differing(one: Settings, other: Settings) -> list[str]:
    """Names of the settings whose values differ."""
    return [row.name for row in variables() if getattr(one, row.field) != getattr(other, row.field)]
