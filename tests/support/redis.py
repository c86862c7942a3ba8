"""Redis as it is run in earnest: a cluster, sentinels with a replica, TLS; all on loopback."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hola.bus.acl import acl_rule

START_S = 20.0
POLL_S = 0.02
NODES = 3


@dataclass
class Server:
    """One redis-server process with its own folder; its append-only file survives kill()."""

    folder: Path
    options: Sequence[str] = ()
    cli_options: Sequence[str] = ()
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start it and wait until it accepts connections."""
        self.folder.mkdir(exist_ok=True)
        command = ["redis-server", *self._config(), "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._accepts, "redis-server accepts", self.log)
        return self

    def stop(self, *, gently: bool = False) -> None:
        """SIGKILL, or SIGTERM when it may say goodbye, and wait."""
        if self.process is not None:
            (self.process.terminate if gently else self.process.kill)()
            self.process.wait()
            self.process = None

    def cli(self, *command: str) -> str:
        """What redis-cli prints for a command; empty while the server does not answer."""
        line = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port)]
        line += [*self.cli_options, *command]
        done = subprocess.run(line, capture_output=True, timeout=START_S, check=False)
        return done.stdout.decode(errors="replace")

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def _config(self) -> list[str]:
        """A sentinel writes to its file, so it has one."""
        path = self.folder / "sentinel.conf"
        return [str(path), "--sentinel"] if path.exists() else []

    def _accepts(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(self.log())
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Tls:
    """Certificates that servers show and ask for; files NAME.crt and NAME.key in `folder`."""

    folder: Path
    name: str

    def options(self, port: int) -> list[str]:
        """Options of a server that speaks TLS alone."""
        pair = ["--tls-cert-file", f"{self.folder / self.name}.crt"]
        pair += ["--tls-key-file", f"{self.folder / self.name}.key"]
        authority = ["--tls-ca-cert-file", str(self.folder / "ca.crt")]
        return [
            *["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes"],
            *pair,
            *authority,
        ]

    def client(self) -> list[str]:
        """Options of redis-cli."""
        pair = ["--cert", f"{self.folder / self.name}.crt", "--key"]
        return [
            "--tls",
            *pair,
            f"{self.folder / self.name}.key",
            "--cacert",
            f"{self.folder}/ca.crt",
        ]


def durable() -> list[str]:
    """Options of a server that loses nothing it has acknowledged."""
    return ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]


def user(name: str, password: str, prefix: str) -> list[str]:
    """Options of a server that knows a user with the documented rule, beside the default one."""
    return ["--user", name, "on", f">{password}", *acl_rule(prefix).split()]


def free_port(below: int = 65536) -> int:
    """A free loopback port; a cluster node needs the one 10,000 above it as well."""
    for _ in range(1000):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < below:
            return port
        candidate = 20000 + port % 30000
        with socket.socket() as probe:
            if candidate < below and probe.connect_ex(("127.0.0.1", candidate)) != 0:
                return candidate
    raise RuntimeError("no free port")


def until(condition: object, what: str, log: object = None) -> None:
    """Poll within START_S. Raises RuntimeError naming what did not come true."""
    deadline = time.monotonic() + START_S
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {START_S} s: {what}\n{log() if log else ''}")  # type: ignore[operator]
        time.sleep(POLL_S)


@contextmanager
def cluster(folder: Path, *more: str, tls: Tls | None = None) -> Iterator[list[Server]]:
    """Three primaries that share the hash slots, with `more` options; with `tls` nothing plain."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *durable(), *more]
    nodes = []
    for i in range(NODES):
        port = free_port(below=55536)
        secure = [*tls.options(port), "--tls-cluster", "yes"] if tls else []
        client = tls.client() if tls else []
        nodes.append(Server(folder / f"node{i}", [*options, *secure], client, port))
    try:
        for node in nodes:
            node.start()
        hosts = [f"127.0.0.1:{node.port}" for node in nodes]
        line = ["redis-cli", *nodes[0].cli_options, "--cluster", "create", *hosts, "--cluster-yes"]
        done = subprocess.run(line, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout.decode() + done.stderr.decode())
        for node in nodes:
            until(
                lambda node=node: "cluster_state:ok" in node.cli("cluster", "info"), "ok", node.log
            )
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@dataclass
class Watched:
    """A master, its replica and the sentinels that watch them."""

    master: Server
    replica: Server
    sentinels: list[Server]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/main"


@contextmanager
def watched(folder: Path, *more: str, tls: Tls | None = None) -> Iterator[Watched]:
    """A master, a replica, three sentinels of which two must agree; `tls`: nothing plain."""

    def server(name: str, *options: str) -> Server:
        port = free_port()
        secure = [*tls.options(port), "--tls-replication", "yes"] if tls else []
        return Server(folder / name, [*options, *secure], tls.client() if tls else [], port)

    master = server("master", *durable(), *more)
    replica_of = ["--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0"]
    replica = server("replica", *durable(), *replica_of, *more)
    sentinels = [server(f"sentinel{i}") for i in range(3)]
    try:
        for each in (master, replica):
            each.start()
        until(lambda: "master_link_status:up" in replica.cli("info", "replication"), "replica")
        for sentinel in sentinels:
            sentinel.folder.mkdir()
            (sentinel.folder / "sentinel.conf").write_text(
                f"sentinel monitor main 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds main 600\n"
                "sentinel failover-timeout main 3000\n"
            )
            sentinel.start()
        for sentinel in sentinels:
            until(
                lambda sentinel=sentinel: (
                    "slaves=1,sentinels=3" in sentinel.cli("info", "sentinel")
                ),
                "sentinels know each other",
                sentinel.log,
            )
        yield Watched(master, replica, sentinels)
    finally:
        for each in (*sentinels, replica, master):
            each.stop()
