"""A child process with stand-in passes: steps that checkpoint, and every way to end badly.

The plan says what they do: `recover.steps` steps of STEP_S seconds; some seeds are ways to fail.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hola.compression.plan import Plan
from hola.compression.report import PassRow, Report, write_report
from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import CalibrationTooShort, Cancelled, UnsupportedArchitecture
from hola_compressor import child
from hola_compressor.passes import Built, Estimate, Progress
from tests.support.family_files import write_tier

STEP_S = 0.04
KILLED, CRASHES, TOO_SHORT, NO_MEMORY, QUIET, UNKNOWN_KIND, HUGE_MEMORY, HUGE_DISK = range(
    9001, 9009
)
DISK_FULL, DISK_FULL_IN_WORDS, ALLOCATION = range(9009, 9012)
SMALLEST = 1000


def estimate(plan: Plan, source: Path) -> Estimate:
    """Small, unless the seed says otherwise."""
    if plan.seed == UNKNOWN_KIND:
        raise UnsupportedArchitecture("no pass knows FooForCausalLM", architecture="Foo")
    return Estimate(
        memory_bytes=2**60 if plan.seed == HUGE_MEMORY else 1000,
        disk_bytes=2**60 if plan.seed == HUGE_DISK else 1000,
        smallest_bytes=SMALLEST,
    )


def run(
    plan: Plan,
    source: Path,
    work: Path,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Built:
    """A chain of digests, one file per step, ending in a model directory."""
    print("libraries print to stdout", flush=True)
    steps, value = plan.recover.steps, hashlib.sha256(str(plan.seed).encode()).digest()
    for step in range(steps):
        file = work / f"step-{step}"
        if not file.exists():
            time.sleep(STEP_S)
            _misbehave(plan.seed)
            value = hashlib.sha256(value + step.to_bytes(4, "big")).digest()
            part = file.with_suffix(".part")
            part.write_bytes(value)
            part.replace(file)
        value = file.read_bytes()
        if cancelled():
            raise Cancelled("stopped between steps")
        progress(
            Progress(stage="recover", done=(step + 1) / steps, message=f"step {step}", eta_s=1)
        )
    return artifact(plan, work, value)


def _misbehave(seed: int) -> None:
    if seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == CRASHES:
        raise RuntimeError("index out of range in a kernel")
    if seed == TOO_SHORT:
        raise CalibrationTooShort("calibration has 12 tokens, 512 are needed", tokens=12)
    if seed == NO_MEMORY:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
    if seed == DISK_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if seed == DISK_FULL_IN_WORDS:
        raise RuntimeError('I/O error: Os { code: 28, message: "No space left on device" }')
    if seed == ALLOCATION:
        raise MemoryError
    if seed == QUIET:
        os._exit(3)


def artifact(plan: Plan, work: Path, value: bytes) -> Built:
    """A model directory with a report in `work`, its weights made of `value`."""
    folder = work / "artifact"
    if not folder.is_dir():
        part = work / "artifact.part"
        shutil.rmtree(part, ignore_errors=True)
        write_tier(part)
        (part / "model.onnx.data").write_bytes(value * (plan.seed % 7 + 1))
        part.rename(folder)
    report = Report(
        source="x",
        parameters=100,
        bytes=500,
        overhead_bytes=10,
        bits_per_weight=4.5,
        original_bytes=1000,
        tokenizer_fingerprint=tokenizer_fingerprint(folder),
        passes=(PassRow(name="recover", note=str(time.monotonic())),),
    )
    write_report(report, folder / "report.json")
    return Built(artifact=folder, report=report)


if __name__ == "__main__":
    child.main(run, estimate)
