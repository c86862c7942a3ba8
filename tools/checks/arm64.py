"""`make arm64-check`: an edge install on an emulated arm64 Debian writes what this one writes."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.checks.debian import debian_root, emulate
from tools.checks.programs import pip
from tools.checks.report import REPO, Report, cache_dir, clean_env, main, run

ARCH = "arm64"
# What a Jetson Orin's cores are like: NEON with dot products, no i8mm and no SVE.
CPU = "cortex-a76"
TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
EMULATED_S = 3600.0


def check(report: Report) -> None:
    """Make the system, install from wheels, write, compare."""
    emulate(report, ARCH)
    archive = debian_root(report, ARCH)
    with tempfile.TemporaryDirectory(prefix="hola-arm64-", dir=cache_dir("debian")) as name:
        root = Path(name) / "root"
        root.mkdir()
        run(["tar", "--extract", "--file", archive, "--directory", root])
        machine = emulated(root, "uname", "-m").strip()
        report.expect(machine == "aarch64", f"the emulated Debian says `uname -m`: {machine}")
        wheels(report, root)
        install(report, root)
        compare(report, ids_there(report, root), ids_here())


def emulated(root: Path, *words: str, **settings: str) -> str:
    """Run a command inside, on the emulated processor; what it prints."""
    inside = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **settings}
    env = ["env", "-i", *(f"{name}={value}" for name, value in inside.items())]
    # A mount name space of its own: whatever is mounted inside is gone with it.
    mounts = f"mount -t proc proc {root}/proc && mount --bind /dev {root}/dev"
    head = f"{mounts} && exec chroot {root} "
    command = ["unshare", "--mount", "sh", "-c", head + '"$@"', "sh", *env, *words]
    return run(command, env=clean_env(QEMU_CPU=CPU), timeout_s=EMULATED_S)


def wheels(report: Report, root: Path) -> None:
    """arm64 wheels of requirements/edge.txt by hash, and ours, into /wheels of the system."""
    report.step("downloading wheels for aarch64")
    target, version = root / "wheels", emulated(root, "python3", "-V").split()[1]
    short = "".join(version.split(".")[:2])
    tags = [word for tag in TAGS for word in ("--platform", f"{tag}_aarch64")]
    options = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--dest", target, *tags]
    lock = REPO / "requirements/edge.txt"
    pip(sys.executable, "download", "--python-version", short, *options, "-r", lock)
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", target, REPO)
    native = [path for path in target.iterdir() if "aarch64" in path.name]
    every = len(list(target.iterdir()))
    report.expect(native, f"{every} wheels by hash, {len(native)} of them for aarch64")
    shutil.copy(lock, root / "edge.txt")


def install(report: Report, root: Path) -> None:
    """pip inside, without any network: wheels only."""
    report.step("installing them inside, emulated (minutes)")
    since = time.monotonic()
    emulated(root, "python3", "-m", "venv", "/opt/hola")
    local = ["--no-index", "--find-links", "/wheels", "--no-deps", "--no-compile"]
    pip_inside = ["/opt/hola/bin/python", "-m", "pip", "install", "--quiet", *local]
    emulated(root, *pip_inside, "--require-hashes", "-r", "/edge.txt")
    emulated(root, "sh", "-c", " ".join(pip_inside) + " /wheels/hola_edge-*.whl")
    said = emulated(root, "/opt/hola/bin/hola", "--version").strip()
    report.ok(f"installed in {time.monotonic() - since:.0f} s; `hola --version` there: {said}")


def ids_there(report: Report, root: Path) -> dict[str, Any]:
    """What the tiers write on the emulated processor."""
    report.step("writing with the demo tiers, emulated (minutes)")
    shutil.copytree(REPO / "models/demo", root / "models/demo")
    shutil.copy(REPO / "tools/checks/greedy_ids.py", root / "ids.py")
    settings = {"HOLA_MODELS_DIR": "/models", "HOLA_LOG_LEVEL": "error", "HOLA_OFFLINE": "1"}
    said = emulated(root, "/opt/hola/bin/python", "/ids.py", **settings, HOLA_THREADS="1")
    return dict(json.loads(said.splitlines()[-1]))


def ids_here() -> dict[str, Any]:
    """What they write on this machine, with this environment's packages."""
    import os

    roots = os.pathsep.join(str(REPO / root) for root in ("shared", "services", "bench"))
    env = clean_env(HOLA_MODELS_DIR=str(REPO / "models"), HOLA_LOG_LEVEL="error", PYTHONPATH=roots)
    script = REPO / "tools/checks/greedy_ids.py"
    said = run([sys.executable, script], env=env | {"HOLA_THREADS": "1"})
    return dict(json.loads(said.splitlines()[-1]))


def compare(report: Report, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Greedy ids are equal, or the fingerprints say that they need not be."""
    prints = [str(facts["fingerprint"])[:16] for facts in (there, here)]
    report.expect(
        there["fingerprint"],
        f"{there['machine']} calls itself exact: its probe agrees with itself bit for bit",
    )
    report.ok(f"fingerprints: {there['machine']} {prints[0]}, {here['machine']} {prints[1]}")
    same_numerics = there["fingerprint"] == here["fingerprint"]
    for number, (far, near) in enumerate(zip(there["answers"], here["answers"], strict=True)):
        kind = "greedy" if not far["temperature"] else f"temperature {far['temperature']}"
        equal = far["ids"] == near["ids"]
        word = "equal to" if equal else "not"
        text = (
            f"answer {number + 1}, {kind}: {len(far['ids'])} ids, {word} those of {here['machine']}"
        )
        report.expect(equal or not same_numerics, text)
        print(f"     {far['text']!r}", flush=True)
    if platform.machine() != there["machine"]:
        report.ok(f"written on {there['machine']} ({CPU}, emulated by qemu)")


if __name__ == "__main__":
    main("arm64-check", check)
