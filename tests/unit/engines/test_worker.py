"""The engine worker: fair between keys, in order within one, and never runs what nobody awaits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from hola.engines.worker import EngineWorker
from hola.errors import EngineFailure, Overloaded


@pytest.fixture
async def worker() -> AsyncIterator[EngineWorker]:
    worker = EngineWorker("test")
    yield worker
    await worker.close()


class Gate:
    """A job that keeps the worker busy until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        if not self._open.wait(timeout=30):
            raise TimeoutError

    def open(self) -> None:
        self._open.set()


async def occupy(worker: EngineWorker) -> tuple[Gate, asyncio.Task[object]]:
    """Start a gate and return once it runs."""
    gate = Gate()
    task: asyncio.Task[object] = asyncio.create_task(worker.run(gate, key="gate"))
    await asyncio.to_thread(gate.entered.wait, 30)
    return gate, task


async def queued(worker: EngineWorker, depth: int) -> None:
    """Let the tasks just created hand in their jobs; then `depth` of them wait or run."""
    await asyncio.sleep(0)
    assert worker.depth == depth


def recorder(log: list[str], name: str) -> Callable[[], None]:
    return lambda: log.append(name)


async def test_result_comes_with_its_times(worker: EngineWorker) -> None:
    timed = await worker.run(lambda: threading.current_thread().name)
    assert timed.value == "engine-test"
    assert timed.queue_ns > 0
    assert timed.compute_ns > 0


async def test_keys_take_turns_and_keep_their_order(worker: EngineWorker) -> None:
    gate, blocked = await occupy(worker)
    log: list[str] = []
    jobs = []
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        jobs.append(asyncio.create_task(worker.run(recorder(log, name), key=name[0])))
        await queued(worker, 1 + len(jobs))
    gate.open()
    await asyncio.gather(blocked, *jobs)
    assert log == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_newcomer_waits_for_one_job_of_a_long_queue_only(worker: EngineWorker) -> None:
    log: list[str] = []
    first, second = Gate(), Gate()
    jobs = [
        asyncio.create_task(worker.run(first, key="long")),
        asyncio.create_task(worker.run(second, key="long")),
        asyncio.create_task(worker.run(recorder(log, "long"), key="long")),
        asyncio.create_task(worker.run(recorder(log, "longer"), key="long")),
    ]
    await queued(worker, 4)
    await asyncio.to_thread(first.entered.wait, 30)
    first.open()
    await asyncio.to_thread(second.entered.wait, 30)
    jobs.append(asyncio.create_task(worker.run(recorder(log, "new"), key="new")))
    await queued(worker, 4)
    second.open()
    await asyncio.gather(*jobs)
    assert log == ["long", "new", "longer"]


async def test_cancelled_job_never_runs(worker: EngineWorker) -> None:
    gate, blocked = await occupy(worker)
    log: list[str] = []
    dropped = asyncio.create_task(worker.run(recorder(log, "dropped"), key="x"))
    kept = asyncio.create_task(worker.run(recorder(log, "kept"), key="x"))
    await queued(worker, 3)
    dropped.cancel()
    await asyncio.wait({dropped})
    assert worker.depth == 2
    gate.open()
    await asyncio.gather(blocked, kept)
    assert log == ["kept"]


async def test_cancelling_a_running_job_leaves_the_worker_alive(worker: EngineWorker) -> None:
    gate, running = await occupy(worker)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    gate.open()
    assert (await worker.run(lambda: 7)).value == 7


@pytest.mark.parametrize("error", [EngineFailure("broken"), KeyError("x"), SystemExit(3)])
async def test_what_a_job_raises_reaches_its_waiter(
    worker: EngineWorker, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await worker.run(fail)
    assert caught.value is error
    assert (await worker.run(lambda: "alive")).value == "alive"


async def test_close_drains_what_is_queued() -> None:
    worker = EngineWorker("drained")
    gate, blocked = await occupy(worker)
    log: list[str] = []
    job = asyncio.create_task(worker.run(recorder(log, "queued"), key="k"))
    await queued(worker, 2)
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await worker.run(lambda: None)
    gate.open()
    await asyncio.gather(closing, blocked, job)
    assert log == ["queued"]
    assert worker.depth == 0


async def test_close_gives_up_on_a_job_that_does_not_end() -> None:
    worker = EngineWorker("stuck")
    gate, blocked = await occupy(worker)
    late = asyncio.create_task(worker.run(lambda: None, key="late"))
    await queued(worker, 2)
    await worker.close(drain_s=0.0)
    await asyncio.wait({late})
    assert late.cancelled()
    gate.open()
    await blocked
    await worker.close()


async def test_close_twice(worker: EngineWorker) -> None:
    await worker.close()
    await worker.close()
    with pytest.raises(Overloaded):
        await worker.run(lambda: None)
