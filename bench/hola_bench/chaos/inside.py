"""Runs a chaos run in a child process that has a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

from hola.errors import HolaError, InvalidRequest
from hola_bench.chaos.namespaces import die_with_parent, missing_tool
from hola_bench.chaos.options import Options
from hola_bench.report import Report

NETWORKS = ("auto", "namespaces", "relays")


def refusal() -> str:
    """Why there can be no network namespace here; empty when there can."""
    tool = missing_tool()
    if tool:
        return f"no program {tool}"
    tried = subprocess.run([*command(), "true"], capture_output=True, text=True, check=False)
    return " ".join(tried.stderr.split()) if tried.returncode else ""


def wanted(network: str) -> bool:
    """Whether to use namespaces. Raises InvalidRequest when they are asked for and refused."""
    if network not in NETWORKS:
        raise InvalidRequest(f"network {network!r}: choose {', '.join(NETWORKS)}", field="network")
    why = "" if network == "relays" else refusal()
    if network == "namespaces" and why:
        raise InvalidRequest(f"no network namespaces here: {why}", field="network")
    return network != "relays" and not why


def run(options: Options) -> Report:
    """The report of `python -m hola_bench.chaos` in its own namespace. Raises HolaError."""
    path = os.pathsep.join(folder for folder in sys.path if folder)
    done = subprocess.run(
        [*command(), sys.executable, "-m", "hola_bench.chaos", json.dumps(asdict(options))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=die_with_parent,
        check=False,
    )
    if done.returncode:
        raise HolaError(f"the run ended with code {done.returncode}; see above")
    return Report(**json.loads(done.stdout))


def command() -> list[str]:
    """Root may have a namespace at once; others become root of a user namespace first."""
    others = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *others, "--net"]
