"""One thread per engine, so that the event loop never waits for a forward pass."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hola.errors import Overloaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """A job's result, nanoseconds it waited for the engine, and nanoseconds it ran."""

    value: T
    queue_ns: int
    compute_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    call: Callable[[], Any]
    future: Future[Timed[Any]]
    key: str
    enqueued_ns: int


class EngineWorker:
    """Runs callables one at a time on its own daemon thread.

    Keys (one per session or request) take turns; jobs of one key keep their order. So a session
    with a long prompt, cut into chunks, delays another session by one chunk at most.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._running = 0
        self._closed = False
        self._stopped: Future[None] = Future()
        self._stopped.set_running_or_notify_cancel()  # no waiter may cancel it
        self._thread = threading.Thread(target=self._loop, name=f"engine-{name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Jobs waiting or running."""
        with self._changed:
            return self._running + sum(len(queue) for queue in self._queues.values())

    async def run(self, call: Callable[[], T], *, key: str = "") -> Timed[T]:
        """Run `call` on the worker's thread and wait for it.

        What `call` raises is raised here. If the waiter is cancelled before the job began, the job
        never runs; a job that has begun finishes and its result is dropped.
        Raises Overloaded when the worker is closed.
        """
        job = _Job(call, Future(), key, time.perf_counter_ns())
        with self._changed:
            if self._closed:
                raise Overloaded("the engine is shutting down", retry_after_ms=1000)
            self._queues.setdefault(key, deque()).append(job)
            self._changed.notify()
        try:
            timed: Timed[T] = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._forget(job)
            raise
        return timed

    async def close(self, drain_s: float = 30.0) -> None:
        """Refuse new jobs, let the queued ones finish, stop the thread. Idempotent.

        Jobs still queued after `drain_s` seconds are cancelled; the one that runs is not waited for
        any longer.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        stopped = asyncio.wrap_future(self._stopped)
        done, _ = await asyncio.wait({stopped}, timeout=drain_s)
        if not done:
            stopped.cancel()
            with self._changed:
                late = [job for queue in self._queues.values() for job in queue]
                self._queues.clear()
                self._changed.notify()
            for job in late:
                job.future.cancel()

    def _forget(self, job: _Job) -> None:
        with self._changed:
            queue = self._queues.get(job.key)
            if queue is not None and job in queue:
                queue.remove(job)
                if not queue:
                    del self._queues[job.key]

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._execute(job)
            with self._changed:
                self._running = 0
        self._stopped.set_result(None)

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._queues:
                if self._closed:
                    return None
                self._changed.wait()
            key, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            self._running = 1
            return job

    @staticmethod
    def _execute(job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        started_ns = time.perf_counter_ns()
        try:
            value = job.call()
        except BaseException as error:  # whatever it was belongs to the waiter
            job.future.set_exception(error)
            return
        ended_ns = time.perf_counter_ns()
        timed = Timed(value, started_ns - job.enqueued_ns, ended_ns - started_ns)
        job.future.set_result(timed)
