"""`python -m hola_compressor.child`: the passes of one job in a process of their own.

The parent writes one line of JSON, {"do": "run" or "estimate", "plan", "source", "work",
"lease_s"}, and then a byte now and then: its lease. Without one for `lease_s` seconds, or when the
pipe closes, the passes stop, since another worker may have the job by then. Answers are lines of
JSON: {"progress"}, and at the end {"built"}, {"estimate"} or {"error"}.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from hola.compression.plan import parse_plan
from hola.engines.memory import available_bytes, ran_out
from hola.errors import Cancelled, Fenced, HolaError, MemoryBudgetExceeded
from hola.full_disk import is_full, no_space
from hola.lifeline import die_with_parent
from hola_compressor import passes

LOCK_FILE = ".lock"
_MAX_REQUEST_BYTES = 2**24
_POLL_S = 0.1


class Lease:
    """Whether the parent still wants the work; fed by its own thread."""

    def __init__(self, stream: BinaryIO, lease_s: float) -> None:
        self._stream = stream
        self._lease_s = lease_s
        self._heard = time.monotonic()
        self._closed = False
        threading.Thread(target=self._listen, name="lease", daemon=True).start()

    def lost(self) -> bool:
        """True once the parent closed the pipe, or was silent for too long."""
        return self._closed or time.monotonic() - self._heard > self._lease_s

    def _listen(self) -> None:
        descriptor = self._stream.fileno()
        while os.read(descriptor, 1024):
            self._heard = time.monotonic()
        self._closed = True


def main(
    run: Callable[..., Any] = passes.run, estimate: Callable[..., Any] = passes.estimate
) -> None:
    """Do what the parent asks; the exit code is 0 whenever it got an answer."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log
    _yield_to_others()
    request = json.loads(
        os.fdopen(0, "rb", buffering=0, closefd=False).readline(_MAX_REQUEST_BYTES)
    )
    lease = Lease(os.fdopen(0, "rb", buffering=0, closefd=False), float(request["lease_s"]))
    try:
        answer = _answer(request, lease, out, run, estimate)
    except HolaError as error:
        answer = {"error": _as_data(error)}
    except BaseException as error:
        answer = {"error": _as_data(_translated(error, Path(request.get("work", "."))))}
        if not isinstance(error, MemoryError | KeyboardInterrupt):
            import traceback

            traceback.print_exc()
    _say(out, answer)


def _answer(
    request: dict[str, Any],
    lease: Lease,
    out: TextIO,
    run: Callable[..., Any],
    estimate: Callable[..., Any],
) -> dict[str, Any]:
    plan, source = parse_plan(request["plan"]), Path(request["source"])
    if request["do"] == "estimate":
        return {"estimate": asdict(estimate(plan, source))}
    work = Path(request["work"])
    with (work / LOCK_FILE).open("w") as lock:
        _lock(lock, lease)
        built = run(
            plan,
            source,
            work,
            progress=lambda step: _say(out, {"progress": asdict(step)}),
            cancelled=lease.lost,
        )
    return {"built": str(built.artifact)}


def _lock(lock: TextIO, lease: Lease) -> None:
    """One process at a time works in a directory. Raises Fenced when the lease ends before."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if lease.lost():
                raise Fenced("another process works in the job's directory") from None
            time.sleep(_POLL_S)
        else:
            return


def _translated(error: BaseException, work: Path) -> HolaError:
    text = f"{type(error).__name__}: {error}".strip()
    if is_full(error):
        return no_space(work, f"the disk filled up while the passes ran ({text[:200]})")
    if ran_out(error):
        return MemoryBudgetExceeded(
            f"the passes ran out of memory ({text[:200]})", available_bytes=available_bytes() or 0
        )
    if isinstance(error, KeyboardInterrupt):
        return Cancelled("interrupted")
    return HolaError(f"the passes failed: {text[:500]}")


def _as_data(error: HolaError) -> dict[str, Any]:
    return {"reason": error.reason, "message": error.message, "details": error.details}


def _say(out: TextIO, answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more; `Lease` ends the work
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _yield_to_others() -> None:
    """On Linux: end with the parent, and be the one to go when memory is short."""
    die_with_parent()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle


if __name__ == "__main__":
    main()
