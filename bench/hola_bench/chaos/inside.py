"""Runs a chaos run in a child process that has a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import cache

from hola.errors import HolaError, InvalidRequest
from hola_bench.chaos.namespaces import die_with_parent, missing_tool, with_system_programs
from hola_bench.chaos.options import Options
from hola_bench.report import Report

NETWORKS = ("auto", "namespaces", "relays")


def refusal() -> str:
    """Why there can be no network namespace here; empty when there can."""
    tool = missing_tool()
    return f"no program {tool}" if tool else _tried()[1]


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
        env={**with_system_programs(), "PYTHONPATH": path},
        preexec_fn=die_with_parent,
        check=False,
    )
    if done.returncode:
        raise HolaError(f"the run ended with code {done.returncode}; see above")
    return Report(**json.loads(done.stdout))


def command() -> list[str]:
    """What runs a program in a network namespace of its own. Raises InvalidRequest."""
    found, why = _tried()
    if why:
        raise InvalidRequest(f"no network namespaces here: {why}", field="network")
    return found


@cache
def _tried() -> tuple[list[str], str]:
    """The command that works here, or why none does.

    Who may not make a network namespace at once may become root of a user namespace first.
    """
    why = ""
    for more in ([], ["--user", "--map-root-user"]):
        found = ["unshare", *more, "--net"]
        # Only a trial of what follows tells: the right to make links may be missing, too.
        trial = ["ip", "link", "set", "lo", "up"]
        done = subprocess.run(
            [*found, *trial],
            env=with_system_programs(),
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return found, ""
        why = why or " ".join(done.stderr.split())
    return [], why
