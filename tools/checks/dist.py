"""`make dist-check`: wheel and sdist are built, installed far from here, and answer questions."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.checks.programs import grpcurl, make_venv, npm, pip
from tools.checks.report import REPO, CheckFailed, Report, clean_env, main, run

PACKAGES = "hola hola_bench hola_cli hola_compressor hola_drafter hola_router hola_verifier".split()
QUESTION = "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?"
ANSWER = "The answer is 14."
# Whoever imports the stubs needs these and nothing else of ours.
STUBS_NEED = ("grpcio>=1.78.2,<1.80", "protobuf>=6.33,<7")
LOCK = ("--constraint", REPO / "requirements/lock.txt")


def check(report: Report) -> None:
    """All of it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hola-dist-") as name:
        folder = Path(name)
        wheel = built(report, folder)
        contents(report, wheel)
        hola = installed(report, folder, wheel)
        with node(hola, folder) as address:
            report.ok(f"`hola node` of the installed wheel serves at {address}")
            python_clients(report, folder, wheel, hola.parent / "python", address)
            other_clients(report, folder, address)


def version() -> str:
    """The version, from the one place that has it."""
    source = (REPO / "shared/hola/__init__.py").read_text("utf-8")
    (found,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    return str(found)


def built(report: Report, folder: Path) -> Path:
    """The wheel, made from the sdist as `python -m build` does."""
    report.step("building sdist and wheel")
    python = make_venv(folder / "build", "build>=1.3")
    run([python, "-m", "build", "--outdir", folder / "dist", REPO])
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    number = version()
    report.expect(
        wheel.name == f"hola_edge-{number}-py3-none-any.whl"
        and sdist.name == f"hola_edge-{number}.tar.gz",
        f"{wheel.name} ({wheel.stat().st_size // 1024} KiB), {sdist.name} "
        f"({sdist.stat().st_size // 1024} KiB): version {number} from shared/hola/__init__.py",
    )
    with tarfile.open(sdist) as archive:
        names = {item.partition("/")[2] for item in archive.getnames()}
    wanted = {"LICENSE", "CHANGELOG.md", "proto/hola/v1/router.proto", "examples/grpcurl.sh"}
    report.expect(wanted <= names, f"the sdist holds {', '.join(sorted(wanted))}")
    return wheel


def contents(report: Report, wheel: Path) -> None:
    """Our packages, the licence, the stubs, and nothing that is large."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names if not name.startswith("hola_edge-")}
    report.expect(tops == set(PACKAGES), f"the wheel holds {', '.join(sorted(tops))} and no other")
    report.expect("hola/py.typed" in names, "hola/py.typed marks it as typed")
    report.expect(any(name.endswith("/LICENSE") for name in names), "the licence is in it")
    large = [name for name in names if name.endswith((".onnx", ".safetensors", ".data"))]
    report.expect(not large, "no model weights are in it")


def installed(report: Report, folder: Path, wheel: Path) -> Path:
    """The `hola` of a new environment, which answers with the checkout's models."""
    report.step("installing the wheel with [edge,auth] into a new environment")
    python = make_venv(folder / "venv")
    pip(python, "install", *LOCK, f"{wheel}[edge,auth]")
    run([python, "-m", "pip", "check"])
    report.ok("`pip check` finds no conflict")
    hola = python.with_name("hola")
    said = run([hola, "--version"], cwd=folder).strip()
    report.expect(said == f"hola {version()}", f"`hola --version` says {said}")
    where = run([python, "-c", "import hola; print(hola.__file__)"], cwd=folder)
    report.expect(str(folder) in where, "hola is imported from the new environment")
    models = ("--models-dir", REPO / "models")
    found = json.loads(run([hola, "doctor", *models, "--json"], cwd=folder))
    broken = [finding for finding in found["findings"] if finding["status"] == "broken"]
    report.expect(found["ok"] and not broken, "`hola doctor` finds nothing broken")
    command = [hola, "generate", "--embedded", "--check-exact", "--model", "demo", *models]
    text = run([*command, QUESTION], cwd=folder)
    report.expect(ANSWER in text, f"`hola generate --embedded --check-exact`: {ANSWER}")
    for script in ("router", "drafter", "verifier", "compressor"):
        program = hola.with_name(f"hola-{script}")
        wrong = clean_env(HOLA_BSU="x")
        done = subprocess.run([program], env=wrong, capture_output=True, text=True, timeout=60)
        if done.returncode != 2 or "HOLA_BUS" not in done.stderr:
            raise CheckFailed(f"{script} with a wrong setting: {done.returncode} {done.stderr}")
    report.ok("the four services start and refuse an unknown setting by its name")
    return hola


@contextmanager
def node(hola: Path, folder: Path) -> Iterator[str]:
    """`hola node` as a process of its own; its host:port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environ = clean_env(HOLA_MODELS_DIR=str(REPO / "models"), HOLA_LOG_LEVEL="warning")
    log = (folder / "node.log").open("wb")
    words = [hola, "node", "--listen", address, "--json"]
    process = subprocess.Popen(words, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        if not process.stdout.readline():  # it says where it serves, once it does
            raise CheckFailed(f"hola node ended: {(folder / 'node.log').read_text()}")
        yield address
    finally:
        process.terminate()
        ended = process.wait(timeout=60)
        process.stdout.close()
        log.close()
    if ended:
        raise CheckFailed(f"hola node ended with {ended} on SIGTERM")


def python_clients(report: Report, folder: Path, wheel: Path, full: Path, address: str) -> None:
    """The examples: with all of HOLA, with the stubs alone, with stubs of one's own."""
    examples = REPO / "examples"
    models = clean_env(HOLA_MODELS_DIR=str(REPO / "models"), HOLA_LOG_LEVEL="error")
    text = run([full, examples / "embedded_generate.py"], cwd=folder, env=models)
    report.expect(ANSWER in text, "examples/embedded_generate.py")
    text = run([full, examples / "remote_generate.py", f"grpc://{address}"], cwd=folder)
    report.expect("The answer is" in text, "examples/remote_generate.py")

    python = make_venv(folder / "third-party", *LOCK, *STUBS_NEED)
    pip(python, "install", "--no-deps", wheel)
    for name in ("plain_grpc_client.py", "plain_grpc_async_client.py"):
        text = run([python, examples / name, address], cwd=folder)
        report.expect(ANSWER in text, f"examples/{name}, with the wheel's stubs and only grpcio")

    own = make_venv(folder / "own", *LOCK, *STUBS_NEED, "grpcio-tools>=1.78.2,<1.79")
    stubs = folder / "stubs"
    stubs.mkdir()
    protos = sorted((REPO / "proto/hola/v1").glob("*.proto"))
    outs = [f"--{kind}_out={stubs}" for kind in ("python", "grpc_python")]
    run([own, "-m", "grpc_tools.protoc", "-I", REPO / "proto", *outs, *protos])
    environ = clean_env(PYTHONPATH=str(stubs))
    text = run([own, examples / "plain_grpc_client.py", address], cwd=folder, env=environ)
    report.expect(ANSWER in text, "the same client with stubs generated from proto/, without HOLA")


def other_clients(report: Report, folder: Path, address: str) -> None:
    """grpcurl, and Node with nothing but the protos."""
    path = f"{grpcurl().parent}:{clean_env()['PATH']}"
    said = run([REPO / "examples/grpcurl.sh", address], cwd=folder, env=clean_env(PATH=path))
    pieces = re.findall(r'"text": ("(?:[^"\\]|\\.)*")', said)
    text = "".join(json.loads(piece) for piece in pieces)
    report.expect("hola.v1.RouterService" in said, "grpcurl lists the services over reflection")
    report.expect(ANSWER in text, "examples/grpcurl.sh")
    client = folder / "node"
    client.mkdir()
    for file in (REPO / "examples/node").glob("*.*"):
        (client / file.name).write_bytes(file.read_bytes())
    npm(report, client)
    said = run(["node", "client.mjs", address, REPO / "proto"], cwd=client)
    report.expect(ANSWER in said, "examples/node/client.mjs, made from the protos alone")


if __name__ == "__main__":
    main("dist-check", check)
