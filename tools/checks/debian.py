"""A small Debian with Python, made by debootstrap and kept: a base image, an arm64 to emulate."""

from __future__ import annotations

import platform
import shutil
import tarfile
from pathlib import Path

from tools.checks.programs import debian
from tools.checks.report import CheckFailed, Report, cache_dir, run

SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
# What the slim base images of Debian leave out, too.
_NOT_NEEDED = (
    "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian",
    "var/cache/apt", "var/cache/debconf", "var/lib/apt/lists", "var/log",
)  # fmt: skip
_EMPTY_AGAIN = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")


def debian_root(report: Report, arch: str) -> Path:
    """The archive of a root file system for `arch`, made once. Needs root."""
    archive = cache_dir("debian") / f"{SUITE}-{arch}.tar"
    if archive.exists():
        return archive
    debian(report, "debootstrap")
    folder = archive.with_suffix(".part")
    shutil.rmtree(folder, ignore_errors=True)
    report.step(f"making a Debian {SUITE} for {arch} with debootstrap (minutes)")
    options = ["--variant=minbase", f"--include={_PACKAGES}", f"--arch={arch}"]
    if MACHINES[arch] == platform.machine():
        run(["debootstrap", *options, SUITE, folder], timeout_s=1800)
    else:
        run(["debootstrap", "--foreign", *options, SUITE, folder], timeout_s=1800)
        unpack(folder)
    for name in _NOT_NEEDED:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _EMPTY_AGAIN:
        (folder / name).mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(".tar.part")
    with tarfile.open(part, "w") as whole:
        whole.add(folder, ".", filter=_no_device)
    part.rename(archive)
    shutil.rmtree(folder)
    return archive


def unpack(folder: Path) -> None:
    """Unpack every package that `debootstrap --foreign` fetched, by this machine's own dpkg.

    Emulated maintainer scripts would take half an hour; programs run without them.
    """
    for package in sorted(folder.glob("var/cache/apt/archives/*.deb")):
        files = f"dpkg-deb --fsys-tarfile '{package}'"
        run(["sh", "-c", f"{files} | tar --extract --keep-directory-symlink -C '{folder}'"])


def _no_device(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if item.isdev() or item.name.startswith("./dev/") else item


def emulate(report: Report, arch: str) -> None:
    """Let the kernel run programs of `arch` with qemu. Raises CheckFailed where it cannot."""
    name = f"qemu-{MACHINES[arch]}"
    debian(report, "qemu-user-static")
    if not (_BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT])
    if not (_BINFMT / name).exists():
        rule = Path(f"/usr/lib/binfmt.d/{name}.conf").read_bytes()
        (_BINFMT / "register").write_bytes(rule.strip())
    if not (_BINFMT / name).exists():
        raise CheckFailed(f"the kernel has no binfmt_misc entry {name}")
