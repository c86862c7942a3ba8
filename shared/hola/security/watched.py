"""What is read from files, and read again when they have changed: certificates, keys, tokens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from hola.errors import ConfigError
from hola.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")
Stamp = tuple[tuple[int, int, int] | None, ...]

# A rotation is seen after this many seconds at the latest: the next look is that far away.
LOOK_EVERY_S = 1.0


class Watched(Generic[T]):
    """The content of `paths` as `load` makes it of them; safe to use from several threads.

    Files that cannot be used (half written, a certificate without its key yet) change nothing: the
    content before stays, the log says why, and they are tried again at the next look.
    """

    def __init__(
        self,
        paths: Sequence[str],
        load: Callable[[], T],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the files. Raises what `load` raises."""
        self._paths = tuple(paths)
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp(self._paths)
        self._value = load()
        self._looked = clock()
        self._complaint = ""

    @property
    def value(self) -> T:
        """The content as of the last look."""
        return self._value

    def refresh(self) -> bool:
        """Look at the files, at most once a second; True when there is new content."""
        with self._lock:
            if self._clock() - self._looked < LOOK_EVERY_S:
                return False
            self._looked = self._clock()
            stamp = _stamp(self._paths)
            return stamp != self._stamp and self._reload(stamp)

    async def fresh(self) -> T:
        """The content now; the files are read off the event loop."""
        if self._clock() - self._looked >= LOOK_EVERY_S:
            await asyncio.to_thread(self.refresh)
        return self._value

    def _reload(self, stamp: Stamp) -> bool:
        try:
            value = self._load()
        except ConfigError as error:
            if self._complaint != error.message:
                log.error("files_not_reloaded", files=self._paths, why=error.message)
            self._complaint = error.message
            return False
        if _stamp(self._paths) != stamp:  # replaced while they were read
            return False
        self._stamp, self._value, self._complaint = stamp, value, ""
        log.info("files_reloaded", files=self._paths)
        return True


def read_file(path: str, variable: str, limit: int) -> bytes:
    """The bytes of the file that a setting names.

    Raises ConfigError naming the setting when it cannot be read or is larger than `limit` bytes.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(
            f"{variable}={path} cannot be read: {error.strerror}", variable=variable
        ) from None
    if len(content) > limit:
        raise ConfigError(f"{variable}={path} is larger than {limit} bytes", variable=variable)
    return content


def _stamp(paths: tuple[str, ...]) -> Stamp:
    return tuple(_one_stamp(path) for path in paths)


def _one_stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
