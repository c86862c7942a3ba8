"""`make compose-check`: what docker-compose.yml names, started in its order, asked, and drained.

Without a container engine: each service is a process on loopback with the file's own command and
settings, from the image that `make images-check` built where it is there, else from this
environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from hola.v1 import common_pb2, router_pb2, router_pb2_grpc
from tools.checks.compose_file import (
    Loopback,
    Service,
    health_command,
    services,
    start_order,
    used_ports,
)
from tools.checks.dist import ANSWER
from tools.checks.images import Buildah, children_of, free_ports
from tools.checks.report import REPO, CheckFailed, Report, clean_env, main, run

HEALTHY_S = 120.0
STREAMS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started service."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path
    contained: bool

    def stop(self) -> float:
        """SIGTERM, as compose sends it; seconds until it ended. Raises CheckFailed."""
        grace = float(str(self.service.entry.get("stop_grace_period", "10s")).rstrip("s"))
        since = time.monotonic()
        program = self.service.entry["command"][0]
        numbers = children_of(self.process.pid, program) if self.contained else [self.process.pid]
        for number in numbers:
            os.kill(number, signal.SIGTERM)
        try:
            code = self.process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"{self.service.name} runs on {grace:.0f} s after SIGTERM") from None
        if code:
            raise CheckFailed(f"{self.service.name} ended with {code}:\n{self.tail()}")
        return time.monotonic() - since

    def tail(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text("utf-8", "replace")[-3000:]


class Host:
    """One machine that plays the compose file's network."""

    def __init__(self, folder: Path, found: dict[str, Service]) -> None:
        self._folder = folder
        secrets = folder / "secrets"
        self._hola("keys", "redis", str(secrets))
        wanted = sorted(set(used_ports(found)))
        self.where = Loopback(
            ports=dict(zip(wanted, free_ports(len(wanted)), strict=True)),
            files={
                "/run/secrets/bus-password": str(secrets / "password"),
                "/run/secrets/redis-users": str(secrets / "users.acl"),
                "/models": str(REPO / "models"),
                "/data": str(folder / "data"),
            },
        )
        (folder / "data").mkdir()
        self._health = health_command(REPO / "Dockerfile")
        self._buildah, self.images = _built(folder)

    def settings(self, one: Service) -> dict[str, str]:
        """The service's environment, with this machine's addresses."""
        given = {"HOLA_MODELS_DIR": "/models"} | one.entry.get("environment", {})
        return {name: self.where.text(one.name, value) for name, value in given.items()}

    def start(self, one: Service) -> Running:
        """Run the service's command."""
        words = [self.where.text(one.name, word) for word in one.entry["command"]]
        log = self._folder / f"{one.name}.log"
        contained = one.ours and _image(one) in self.images
        if not one.ours:
            port = self.where.ports[one.name, 6379]
            words += ["--port", str(port), "--bind", "127.0.0.1"]
        command = self._command(one, words, contained=contained)
        environment = clean_env(**({} if contained else self.settings(one)))
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        return Running(service=one, process=process, log=log, contained=contained)

    def wait_healthy(self, running: Running) -> None:
        """Ask as compose would, until it is healthy. Raises CheckFailed."""
        one, until = running.service, time.monotonic() + HEALTHY_S
        if one.ours:
            test = self._command(one, self._health, contained=running.contained)
        else:
            port = self.where.ports[one.name, 6379]
            test = ["sh", "-c", one.entry["healthcheck"]["test"][1].replace("6379", str(port))]
        environment = clean_env(**self.settings(one))
        while subprocess.run(test, env=environment, capture_output=True).returncode:
            if running.process.poll() is not None or time.monotonic() > until:
                raise CheckFailed(f"{one.name} does not become healthy:\n{running.tail()}")
            time.sleep(0.2)

    def _command(self, one: Service, words: Sequence[str], *, contained: bool) -> list[str]:
        if contained:
            volumes = [self.where.files["/data"], str(self._folder / "secrets"), f"{REPO}/models"]
            container = self.images[_image(one)]
            return self._buildah.inside(container, self.settings(one), words, volumes=volumes)
        program = Path(sys.executable).with_name(words[0])
        return [str(program) if program.exists() else words[0], *words[1:]]

    def _hola(self, *words: str) -> None:
        run([sys.executable, "-c", "from hola_cli.main import main; main()", *words], env=_env())

    def close(self) -> None:
        """Give the containers back."""
        for container in self.images.values():
            self._buildah("rm", container)


def _env() -> dict[str, str]:
    """As `clean_env`, with the path to this checkout's packages where it is not installed."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return clean_env(**kept)


def _image(one: Service) -> str:
    return f"localhost/{one.entry['image']}"


def _built(folder: Path) -> tuple[Buildah, dict[str, str]]:
    """Containers of the images that `make images-check` has built, by image."""
    try:
        buildah = Buildah(folder)
        names = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    except CheckFailed:
        return Buildah(folder), {}
    wanted = {_image(one) for one in services().values() if one.ours}
    return buildah, {
        name: buildah("from", "--pull-never", name) for name in names if name in wanted
    }


def check(report: Report) -> None:
    """Start, ask, stop."""
    found = services()
    order = start_order(found)
    report.ok(f"start order by depends_on: {', '.join(one.name for one in order)}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hola-compose-")))
        host = Host(folder, found)
        stack.callback(host.close)
        running: list[Running] = []
        stack.callback(_kill, running)
        for one in order:
            running.append(host.start(one))
            host.wait_healthy(running[-1])
            how = "from its image" if running[-1].contained else "from this environment"
            report.ok(f"{one.name}: `{one.entry['command'][0]}` is healthy, {how}")
        router = f"127.0.0.1:{host.where.ports['router', 7070]}"
        text = run(_client(router), env=_env())
        report.expect(ANSWER in text, f"a plain gRPC client asks the router: {text.strip()!r}")
        drains(report, host, running, router)


def drains(report: Report, host: Host, running: list[Running], router: str) -> None:
    """Stop in compose's order under load: no stream is cut, no job is left, every exit is 0."""
    with ThreadPoolExecutor(STREAMS) as pool:
        undisturbed = list(pool.map(lambda seed: Stream(router, seed).text(), range(STREAMS)))
        streams = [Stream(router, seed) for seed in range(STREAMS)]
        texts = [pool.submit(stream.text) for stream in streams]
        for stream in streams:
            if not stream.begun.wait(timeout=60):
                raise CheckFailed("a stream does not begin")
        under_way = sum(not text.done() for text in texts)
        took = {}
        for one in reversed(running):
            if one.service.name == "redis":
                left = _jobs_left(host)
                report.expect(left == 0, f"no job is left on Redis ({left})")
            took[one.service.name] = one.stop()
        right = [text.result() for text in texts]
    report.expect(
        under_way > 0 and right == undisturbed,
        f"{under_way} streams were under way at SIGTERM: all ended, with the text of an undisturbed"
        f" run ({sum(map(len, right))} characters)",
    )
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
    report.ok(f"stopped in compose's order, each with exit code 0: {times}")


class Stream:
    """One request that takes a while, over nothing but grpcio and the stubs."""

    def __init__(self, router: str, seed: int) -> None:
        self._router, self._seed = router, seed
        self.begun = threading.Event()

    def text(self) -> str:
        """All of its text. Raises CheckFailed when it does not end well."""
        sampling = common_pb2.SamplingParams(temperature=1.5, seed=self._seed, max_tokens=64)
        request = router_pb2.RouterServiceGenerateRequest(prompt="Tom has", sampling=sampling)
        words = []
        with grpc.insecure_channel(self._router) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            for answer in stub.Generate(request, timeout=120):
                words += [token.text for token in answer.event.tokens.tokens]
                if words:
                    self.begun.set()
                if answer.event.HasField("finished"):
                    return "".join(words)
        raise CheckFailed(f"stream {self._seed} ended without a summary")


def _client(router: str) -> list[str]:
    return [sys.executable, "-u", str(REPO / "examples/plain_grpc_client.py"), router]


def _jobs_left(host: Host) -> int:
    import redis

    password = Path(host.where.files["/run/secrets/bus-password"]).read_text("ascii")
    port = host.where.ports["redis", 6379]
    with redis.Redis(port=port, username="hola", password=password) as client:
        tenants = [name for name in client.zrange("hola:{jobs}:tenants", 0, -1) if name]
        return sum(client.xlen(b"hola:{jobs}:queue:" + name) for name in tenants)


def _kill(running: list[Running]) -> None:
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


if __name__ == "__main__":
    main("compose-check", check)
