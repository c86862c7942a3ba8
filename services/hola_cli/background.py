"""An event loop on a thread of its own, so that the main thread is free to read the keyboard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")


class Background(Generic[R]):
    """Enters an asynchronous context on a loop thread, keeps it open, and runs coroutines there.

    The context is entered and left by one task, as task groups inside it demand. With Ctrl-C in
    `run`, the coroutine is cancelled and the context stays usable.
    """

    def __init__(self, context: AbstractAsyncContextManager[R]) -> None:
        self._context = context
        self._ready: Future[R] = Future()
        self._thread = threading.Thread(target=self._main, name="hola-loop", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._late: BaseException | None = None

    def __enter__(self) -> R:
        """Start the loop and enter the context. Raises what entering raised."""
        self._thread.start()
        return self._ready.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the context and end the loop. Raises what leaving raised."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._late is not None and error is None:
            raise self._late

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of a coroutine run on the loop. On KeyboardInterrupt it is cancelled first."""
        if self._loop is None:
            raise RuntimeError("Background.run needs an entered context")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _main(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            # Until entering succeeded __enter__ waits for it, afterwards __exit__ asks for it.
            if self._ready.done():
                self._late = error
            else:
                self._ready.set_exception(error)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._context as resource:
            self._ready.set_result(resource)
            await self._stop.wait()
