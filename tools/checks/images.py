"""`make images-check`: images are built by buildah on a Debian made here, looked at, and run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.checks.debian import MACHINES, debian_root
from tools.checks.dist import ANSWER, QUESTION, version
from tools.checks.programs import debian
from tools.checks.report import REPO, CheckFailed, Report, cache_dir, clean_env, main, run

DEFAULT = ("edge", "verifier-cpu", "router")
EVERY = (*DEFAULT, "verifier-gpu", "compressor")
MOST_MB = {"edge": 350, "verifier-cpu": 350}
BASE = "localhost/hola-base:check"
USER = "10001:10001"
COMPILERS = "cc gcc g++ c++ clang tcc ld as make rustc go pip pip3".split()
HEALTHY_S = 180.0


class Buildah:
    """buildah with a store of its own, chroot isolation and pip set up as it is here."""

    def __init__(self, folder: Path) -> None:
        store = cache_dir("buildah")
        self._words = ["buildah", "--root", f"{store}/root", "--runroot", f"{store}/run"]
        self._volumes = pip_volumes(folder)

    def __call__(self, *words: str | Path, timeout_s: float = 3600) -> str:
        """One buildah command; what it prints."""
        return run([*self._words, *words], timeout_s=timeout_s).strip()

    def build(self, target: str, tag: str) -> None:
        """Build one target of the Dockerfile."""
        arguments = {"BASE_IMAGE": BASE}
        if target == "compressor":  # where this machine's pip finds the CPU build by itself
            arguments["TORCH_INDEX"] = os.environ.get("TORCH_INDEX", "")
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--volume={volume}" for volume in self._volumes]
        common = ("--isolation=chroot", "--format=docker", "--layers", "--target", target)
        self("build", *common, *options, "--tag", tag, REPO)

    def inside(
        self,
        container: str,
        settings: dict[str, str],
        words: Sequence[str],
        *,
        volumes: Sequence[str] = (),
    ) -> list[str]:
        """The command line that runs `words` in the container, as its user.

        It sees the models at /models, and each folder of `volumes` where it is here.
        """
        mounts = [f"--volume={REPO}/models:/models:ro"]
        mounts += [f"--volume={folder}:{folder}" for folder in volumes]
        env = [f"--env={name}={value}" for name, value in settings.items()]
        head = [*self._words, "run", "--isolation=chroot", f"--user={USER}", *mounts, *env]
        return [*head, container, "--", *words]


def pip_volumes(folder: Path) -> list[str]:
    """pip's settings on this machine as read-only volumes of the build: no image has them."""
    found = dict(
        line.removeprefix("global.").split("=", 1)
        for line in run(["python3", "-m", "pip", "config", "list"]).splitlines()
        if line.startswith("global.")
    )
    values = {name: shlex.split(text)[0].replace("\n", "\n ") for name, text in found.items()}
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if certificates:
        values.setdefault("cert", certificates)
    if not values:
        return []
    lines = [f"{name} = {value}" for name, value in values.items()]
    config = folder / "pip.conf"
    config.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    paths = re.findall(r"(?:file://)?(/[\w./-]+)", " ".join(values.values()))
    local = {Path(path) for path in paths if Path(path).exists()}
    roots = {path.parent if path.name == "simple" else path for path in local}
    return [f"{config}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(roots))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One built image, and a container of it whose files can be read at `files`."""

    target: str
    container: str
    files: Path
    config: dict[str, object]


def check(report: Report, targets: Sequence[str]) -> None:
    """Base, then each image: build, look, run."""
    debian(report, "buildah", "debootstrap")
    with tempfile.TemporaryDirectory(prefix="hola-images-") as name:
        buildah = Buildah(Path(name))
        import_base(report, buildah)
        for target in targets:
            tag = f"localhost/hola-{target}:{version()}"
            report.step(f"building {tag}")
            since = time.monotonic()
            buildah.build(target, tag)
            report.ok(f"{target}: built in {time.monotonic() - since:.0f} s")
            with opened(buildah, target, tag) as image:
                looked_at(report, image)
                runs(report, buildah, image)


def import_base(report: Report, buildah: Buildah) -> None:
    """The Debian of debootstrap as the base image."""
    (arch,) = (arch for arch, machine in MACHINES.items() if machine == platform.machine())
    archive = debian_root(report, arch)
    stamp = f"{archive.stat().st_mtime_ns}"
    with contextlib.suppress(CheckFailed):
        there = json.loads(buildah("inspect", "--type", "image", BASE))
        if there["OCIv1"]["config"].get("Labels", {}).get("stamp") == stamp:
            report.ok(f"base: Debian for {arch}, made by debootstrap")
            return
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, archive, "/")
    buildah("config", "--label", f"stamp={stamp}", "--arch", arch, container)
    buildah("commit", "--quiet", "--rm", container, BASE)
    report.ok(f"base: Debian for {arch}, made by debootstrap")


@contextmanager
def opened(buildah: Buildah, target: str, tag: str) -> Iterator[Image]:
    """A container of the image, mounted."""
    config = json.loads(buildah("inspect", "--type", "image", tag))["Docker"]["config"]
    container = buildah("from", "--pull-never", tag)
    try:
        files = Path(buildah("mount", container))
        yield Image(target=target, container=container, files=files, config=config)
    finally:
        buildah("umount", container)
        buildah("rm", container)


def looked_at(report: Report, image: Image) -> None:
    """Size, user, what must not be in it."""
    name = image.target
    total = hola = 0
    for path in image.files.rglob("*"):
        if path.is_file() and not path.is_symlink():
            size = path.lstat().st_size
            total += size
            hola += size if path.is_relative_to(image.files / "opt/hola") else 0
    most = MOST_MB.get(name)
    text = f"{name}: {total / 1e6:.0f} MB, {hola / 1e6:.0f} MB of them in /opt/hola"
    report.expect(most is None or total < most * 1e6, text + (f" (< {most} MB)" if most else ""))
    folders = [image.files / folder for folder in ("opt/hola/bin", "usr/bin", "bin", "usr/sbin")]
    compilers = [tool for tool in COMPILERS for folder in folders if (folder / tool).exists()]
    report.expect(
        not compilers, f"{name}: none of {', '.join(COMPILERS)} {compilers or ''}".strip()
    )
    user = str(image.config.get("User", ""))
    report.expect(user == USER, f"{name}: runs as {user}, not root")
    check_words = image.config.get("Healthcheck")
    report.expect(bool(check_words), f"{name}: has a health check")
    (packages,) = (image.files / "opt/hola/lib").glob("python3*/site-packages")
    heavy = [found for found in ("torch", "transformers") if (packages / found).exists()]
    wanted = ["torch", "transformers"] if name == "compressor" else []
    report.expect(
        heavy == wanted, f"{name}: of torch and transformers, it has {heavy or 'neither'}"
    )
    weights = [*packages.rglob("*.safetensors"), *packages.rglob("*.onnx")]
    report.expect(not weights, f"{name}: no model weights in it")


def runs(report: Report, buildah: Buildah, image: Image) -> None:
    """`hola doctor`, an answer, and the image's own command with its own health check."""
    name = image.target

    def inside(*words: str, **settings: str) -> str:
        return run(buildah.inside(image.container, settings, words), timeout_s=600)

    said = inside("python", "-c", "import os; print(os.getuid(), os.geteuid())").split()
    report.expect(said == ["10001", "10001"], f"{name}: a process in it has the user id 10001")
    words = (
        "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null"
    )
    open_to_it = inside("sh", "-c", f"{words}; true").split()
    outside = [path for path in open_to_it if not re.match(r"/(tmp|var/tmp|run/lock|sys)", path)]
    report.expect(
        not outside, f"{name}: nothing but /tmp can be written to {outside or ''}".strip()
    )
    if name != "verifier-gpu":  # onnxruntime-gpu wants a driver to do more than be imported
        found = json.loads(inside("hola", "doctor", "--json"))
        report.expect(found["ok"], f"{name}: `hola doctor` finds nothing broken")
        text = inside("hola", "generate", "--embedded", "--check-exact", QUESTION)
        report.expect(ANSWER in text, f"{name}: `hola generate --embedded --check-exact`: {ANSWER}")
    health = image.config["Healthcheck"]
    assert isinstance(health, dict)
    test = health["Test"]
    command = image.config["Cmd"]
    assert isinstance(command, list)
    # A drafter or a router waits for a Redis and a verifier; `hola node` is all of them in one.
    service = ["hola", "node"] if command[0] in ("hola-drafter", "hola-router") else command
    serving(report, buildah, image, service=service, test=test[1:])


def serving(
    report: Report, buildah: Buildah, image: Image, *, service: list[str], test: list[str]
) -> None:
    """Start a service in the container, wait until its health check says so, stop it by SIGTERM."""
    ports = free_ports(2)
    settings = {
        "HOLA_LISTEN": f"127.0.0.1:{ports[0]}",
        "HOLA_HEALTH_LISTEN": f"127.0.0.1:{ports[1]}",
        "HOLA_MODEL": "demo",
    }
    words = buildah.inside(image.container, settings, service)
    process = subprocess.Popen(
        words, env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + HEALTHY_S
        while True:
            asked = subprocess.run(
                buildah.inside(image.container, settings, test), capture_output=True, text=True
            )
            if asked.returncode == 0:
                break
            if process.poll() is not None or time.monotonic() > until:
                raise CheckFailed(f"{image.target}: {service} is not healthy: {asked.stderr}")
        report.ok(f"{image.target}: `{' '.join(service)}` is healthy by the image's health check")
        for number in children_of(process.pid, service[0]):
            os.kill(number, 15)
        ended = process.wait(timeout=60)
        report.expect(ended == 0, f"{image.target}: it ends with 0 on SIGTERM (got {ended})")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def children_of(parent: int, program: str) -> list[int]:
    """Processes below `parent` whose command line names `program`: buildah has helpers."""
    found = []
    todo = [parent]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            for number in map(int, task.read_text().split()):
                todo.append(number)
                line = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
                if line and Path(line[0].decode()).name.startswith("python"):
                    found += [number] if any(program.encode() in word for word in line) else []
    return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build and run the images.")
    parser.add_argument("targets", nargs="*", choices=[*EVERY, []], help=f"of {EVERY}")
    chosen = parser.parse_args().targets or list(DEFAULT)
    main("images-check", lambda report: check(report, chosen))
