"""`make observability-check`: metrics, traces, alerts and dashboard, tried on real processes.

Starts Redis, the four services and `hola node` on this machine with the demo tiers, asks questions,
and has promtool and a real Prometheus look at what they show. Prints what it checked; ends with 1
at the first thing that is not as it should be.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[1]
OPS = REPO / "ops"
SERVICES = ("verifier", "drafter", "router", "compressor")
QUESTION = "Question: Anna has 6 boxes with 7 shells each. How many shells does Anna have?"
HOLA = [sys.executable, "-c", "from hola_cli.main import main; main()"]
PATIENCE_S = 120.0
ANY_METRICS = {
    "HOLA_METRICS_LISTEN": "127.0.0.1:0",
    "HOLA_LOG_FORMAT": "json",
    "HOLA_THREADS": "1",
}
# Every hop of a request, as service and span.
HOPS = (
    ("client", "chat"),
    ("router", "hola.v1.RouterService/Generate"),
    ("router", "send jobs"),
    ("drafter", "process jobs"),
    ("drafter", "generate demo"),
    ("drafter", "draft"),
    ("drafter", "verify round"),
    ("drafter", "send journal"),
    ("verifier", "hola.v1.VerifierService/Verify"),
    ("verifier", "prefill"),
    ("verifier", "verify"),
)


class CheckFailed(Exception):
    """Something is not as it should be."""


@dataclass
class Machine:
    """A folder and the processes that are ended with it; what they serve is on unix sockets.

    Only /metrics and Prometheus need ports. A service takes any (port 0) and its log says which.
    """

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def at(self, name: str) -> str:
        """The address of a service."""
        return f"unix://{self.folder}/{name}.sock"

    def start(self, name: str, command: Sequence[str], **settings: str) -> None:
        """Start a process with these HOLA_* settings and no others; its log is NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environ(**settings), stdout=log, stderr=log
            )

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def metrics(self, name: str) -> str:
        """Where a service serves its metrics, from its log."""
        (port,) = re.findall(r'"(?:port|metrics_port)": (\d+)', self.log(name))
        return f"127.0.0.1:{port}"

    def until(self, name: str, what: str, happens: Callable[[], bool]) -> None:
        """Wait. Raises CheckFailed with the log of `name`, at once when that process ends."""
        deadline = time.monotonic() + PATIENCE_S
        while not happens():
            ended = self.processes[name].poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"not within {PATIENCE_S:g} s" if ended is None else f"{name} ended: {ended}"
                raise CheckFailed(f"{what}: {why}\n{self.log(name)[-2000:]}")
            time.sleep(0.2)

    def stop(self, *, wait_s: float = 20.0) -> None:
        """SIGTERM to all, youngest first, and wait."""
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes.values()):
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


def main() -> int:
    """Everything; the exit code."""
    try:
        for program in ("promtool", "prometheus", "redis-server"):
            expect(
                shutil.which(program) is not None, f"{program}: `make observability-check` has it"
            )
        check_files()
        with tempfile.TemporaryDirectory(prefix="hola-eyes-") as name, ExitStack() as stack:
            machine = Machine(Path(name))
            stack.callback(machine.stop)
            check_fleet(machine)
            check_trace(machine)
            check_scraping(machine)
    except CheckFailed as wrong:
        print(f"FAILED: {wrong}", flush=True)
        return 1
    print("all of it holds on this machine")
    return 0


def check_files() -> None:
    """Rules, their tests, the example configuration, and the dashboard's names."""
    rules, tests = OPS / "prometheus/hola.rules.yml", OPS / "prometheus/hola.rules.test.yml"
    count = sum(len(group["rules"]) for group in yaml.safe_load(rules.read_text())["groups"])
    run("promtool", "check", "rules", str(rules))
    ok(f"promtool check rules: {count} alerts")
    cases = yaml.safe_load(tests.read_text())["tests"]
    run("promtool", "test", "rules", str(tests))
    expected = sum(len(case.get("alert_rule_test", ())) for case in cases)
    ok(f"promtool test rules: {expected} expectations on made-up series")
    run("promtool", "check", "config", str(OPS / "prometheus/prometheus.yml"))
    ok("promtool check config: the example configuration")
    page = "tests/unit/test_observability.py"
    told = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", page)
    ok(f"dashboard, alerts and pages name only what there is: {told.splitlines()[-1]}")


def check_fleet(machine: Machine) -> None:
    """The four services on Redis; each one's /metrics through promtool after a request."""
    redis = machine.folder / "redis.sock"
    where = ["--port", "0", "--unixsocket", str(redis), "--dir", str(machine.folder)]
    machine.start("redis", ["redis-server", *where, "--save", ""])
    shared = {
        "HOLA_BUS": f"unix://{redis}",
        "HOLA_VERIFIER": machine.at("verifier"),
        "HOLA_TRACE": f"file:{machine.folder}/spans.jsonl",
        **ANY_METRICS,
    }
    machine.until("redis", "Redis answers", redis.exists)
    for name in SERVICES:
        command = [sys.executable, "-m", f"hola_{name}"]
        machine.start(name, command, HOLA_LISTEN=machine.at(name), **shared)
    for name in SERVICES:
        machine.until(name, f"the {name} serves", partial(serves, machine, name))
    ask(machine.at("router"), HOLA_TRACE=shared["HOLA_TRACE"])
    for name in SERVICES:
        page = get(f"http://{machine.metrics(name)}/metrics")
        run("promtool", "check", "metrics", given=page)
        samples = sum(not line.startswith("#") for line in page.splitlines())
        ok(f"promtool check metrics: {name}, {samples} samples")


def check_trace(machine: Machine) -> None:
    """The request's spans are one trace, with every hop, and nobody's text."""
    time.sleep(2)  # spans are written once a second
    text = (machine.folder / "spans.jsonl").read_text()
    spans = [json.loads(line) for line in text.splitlines()]
    ids = {span["trace_id"] for span in spans}
    expect(len(ids) == 1, f"one request to be one trace, not {len(ids)}")
    known = {span["span_id"]: span for span in spans}
    roots = [span for span in spans if span["parent_id"] not in known]
    expect(len(roots) == 1, f"one span without a parent, not {[s['name'] for s in roots]}")
    for service, name in HOPS:
        found = any(s["service"] == f"hola-{service}" and s["name"] == name for s in spans)
        expect(found, f"a span {name!r} of the {service}")
    for word in ("Anna", "boxes", "shells"):
        expect(word not in text, f"no word of the question in the trace, but {word!r} is")
    ok(f"trace {ids.pop()}: {len(spans)} spans, every hop, no text")
    for line in tree(roots[0], spans):
        print(f"       {line}")


def tree(
    span: Mapping[str, Any], spans: Sequence[Mapping[str, Any]], depth: int = 0
) -> Iterator[str]:
    """A line per span; of equal siblings only the first two."""
    took_ms = (span["end_unix_ns"] - span["start_unix_ns"]) / 1e6
    yield f"{'  ' * depth}{span['service'].removeprefix('hola-')}: {span['name']} {took_ms:.2f} ms"
    below = sorted(
        (each for each in spans if each["parent_id"] == span["span_id"]),
        key=lambda each: each["start_unix_ns"],
    )
    seen: dict[str, int] = {}
    for each in below:
        seen[each["name"]] = seen.get(each["name"], 0) + 1
        if seen[each["name"]] <= 2:
            yield from tree(each, spans, depth + 1)
    for name, count in seen.items():
        if count > 2:
            yield f"{'  ' * (depth + 1)}... and {count - 2} more of {name}"


def check_scraping(machine: Machine) -> None:
    """A real Prometheus reads `hola node` and the services, and answers every query we ship."""
    node = [*HOLA, "node", "--listen", machine.at("node"), "--json"]
    machine.start("node", node, **ANY_METRICS)
    machine.until("node", "the node serves", lambda: "metrics_port" in machine.log("node"))
    targets = {name: machine.metrics(name) for name in (*SERVICES, "node")}
    address = prometheus(machine, targets)
    machine.until("prometheus", "all targets are up", lambda: up(address) == set(targets))
    ok(f"Prometheus {prometheus_version()} scrapes {', '.join(targets)}")
    for _ in range(3):
        ask(machine.at("node"))
    tokens = 'sum(hola_committed_tokens_total{instance="node"})'
    machine.until("prometheus", "it counts the node's tokens", lambda: value(address, tokens) > 0)
    time.sleep(3)  # a rate needs two looks
    machine.until("prometheus", "the alerts are evaluated", partial(evaluated, address))
    check_queries(address)
    firing = [a for a in asked(address, "/api/v1/alerts")["alerts"] if a["state"] == "firing"]
    expect(not firing, f"no alert to fire on a healthy fleet, but {firing}")
    ok("no alert fires on a healthy fleet")


def check_queries(address: str) -> None:
    """Every query of the dashboard is understood, and most have something to show."""
    board = json.loads((OPS / "grafana/hola.json").read_text())
    queries = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]
    shown = 0
    for query in queries:
        query = query.replace("$__rate_interval", "30s")
        query = query.replace("$job", ".*").replace("$instance", ".*")
        shown += bool(asked(address, "/api/v1/query", query=query)["result"])
    expect(shown >= len(queries) * 2 // 3, f"most panels to show something, but {shown} do")
    ok(f"Prometheus answers all {len(queries)} queries of the dashboard, {shown} with data")


def prometheus(machine: Machine, targets: Mapping[str, str]) -> str:
    """Start one on loopback that scrapes the targets once a second; its address."""
    static = [{"targets": [at], "labels": {"instance": name}} for name, at in targets.items()]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(OPS / "prometheus/hola.rules.yml")],
        "scrape_configs": [{"job_name": "hola", "static_configs": static}],
    }
    file, port = machine.folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
    machine.start("prometheus", [*command, f"--storage.tsdb.path={machine.folder}/tsdb"])
    ready = "Server is ready to receive web requests"
    machine.until("prometheus", "Prometheus serves", lambda: ready in machine.log("prometheus"))
    return f"http://127.0.0.1:{port}"


def ask(router: str, **settings: str) -> None:
    """One question through a router, as a user asks it."""
    done = subprocess.run(
        [*HOLA, "generate", "--router", router, QUESTION],
        env=environ(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    expect(done.returncode == 0 and bool(done.stdout.strip()), f"an answer, not {done.stderr}")


def environ(**settings: str) -> dict[str, str]:
    """The environment with these HOLA_* settings and no others."""
    kept = {key: value for key, value in os.environ.items() if key[:5] != "HOLA_"}
    return {**kept, **settings}


def serves(machine: Machine, name: str) -> bool:
    """Whether a service says that it serves."""
    return '"serving"' in machine.log(name)


def evaluated(address: str) -> bool:
    """Whether every alert has been looked at without an error."""
    groups = asked(address, "/api/v1/rules")["groups"]
    return all(rule["health"] == "ok" for group in groups for rule in group["rules"])


def up(address: str) -> set[str]:
    """Instances that the last scrape reached."""
    found = asked(address, "/api/v1/query", query='up{job="hola"} == 1')["result"]
    return {each["metric"]["instance"] for each in found}


def value(address: str, query: str) -> float:
    """What a query gives, 0 without a result."""
    found = asked(address, "/api/v1/query", query=query)["result"]
    return float(found[0]["value"][1]) if found else 0.0


def asked(address: str, path: str, **parameters: str) -> Any:
    """The data of an answer of Prometheus's API."""
    try:
        answer = json.loads(get(f"{address}{path}?{urllib.parse.urlencode(parameters)}"))
    except OSError as error:
        raise CheckFailed(f"Prometheus refuses {parameters}: {error}") from None
    expect(answer["status"] == "success", f"success, not {answer} for {parameters}")
    return answer["data"]


def prometheus_version() -> str:
    """As the program says it."""
    found = re.search(r"version (\S+)", run("prometheus", "--version"))
    return found[1] if found else "of unknown version"


def run(*command: str, given: str | None = None) -> str:
    """A program's output. Raises CheckFailed with it when the program fails."""
    done = subprocess.run(
        command, input=given, cwd=REPO, capture_output=True, text=True, timeout=PATIENCE_S
    )
    output = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise CheckFailed(f"{' '.join(command)}:\n{output}")
    return output


def get(url: str) -> str:
    """A page's text."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def expect(holds: bool, what: str) -> None:
    """Raises CheckFailed when it does not hold."""
    if not holds:
        raise CheckFailed(f"expected {what}")


def ok(what: str) -> None:
    """Say what holds."""
    print(f"ok   {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
