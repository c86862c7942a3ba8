"""`make arm64-check`: an edge install on an emulated arm64 Debian writes what this one writes."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
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
SITE = "opt/hola"


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


def install(report: Report, root: Path) -> None:
    """The edge requirements by hash, and our wheel: unpacked here, since wheels run nothing."""
    report.step("downloading wheels for aarch64")
    store, place = root / "wheels", root / SITE
    short = "".join(emulated(root, "python3", "-V").split()[1].split(".")[:2])
    tags = [word for tag in TAGS for word in ("--platform", f"{tag}_aarch64")]
    exact = ["--python-version", short, "--only-binary", ":all:", "--no-deps", *tags]
    by_hash = ["--require-hashes", "-r", REPO / "requirements/edge.txt"]
    pip(sys.executable, "download", *exact, "--dest", store, *by_hash)
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", store, REPO)
    native = [path for path in store.iterdir() if "aarch64" in path.name]
    every = len(list(store.iterdir()))
    report.expect(native, f"{every} wheels by hash, {len(native)} of them for aarch64")
    local = ["--no-index", "--find-links", store, "--no-compile", "--target", place]
    pip(sys.executable, "install", *exact, *local, *by_hash)
    (ours,) = store.glob("hola_edge-*.whl")
    pip(sys.executable, "install", *exact, *local, ours)
    said = hola(root, "--version").strip()
    report.ok(f"the edge install says `hola --version` there: {said}")


def hola(root: Path, *words: str) -> str:
    """The `hola` command, emulated."""
    code = "from hola_cli.main import main; main()"
    return emulated(root, "python3", "-c", code, *words, PYTHONPATH=f"/{SITE}")


def ids_there(report: Report, root: Path) -> dict[str, Any]:
    """What the tiers write on the emulated processor."""
    report.step("writing with the demo tiers, emulated (minutes)")
    shutil.copytree(REPO / "models/demo", root / "models/demo")
    shutil.copy(REPO / "tools/checks/greedy_ids.py", root / "ids.py")
    settings = {"HOLA_MODELS_DIR": "/models", "HOLA_LOG_LEVEL": "error", "HOLA_OFFLINE": "1"}
    settings |= {"HOLA_THREADS": "1", "PYTHONPATH": f"/{SITE}"}
    said = emulated(root, "python3", "/ids.py", **settings)
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
