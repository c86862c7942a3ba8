"""`hola node` as a process: other commands reach it, and Ctrl-C ends it cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

MODEL = "scripted:seed=3,eos_bias=-1000"
PROGRAM = "from hola_cli.main import main; main()"


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """Address of a running node."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLA_")}
    environ = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "HOLA_LOG_LEVEL": "error"}
    command = [sys.executable, "-c", PROGRAM, "node", "--json", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--model", MODEL],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert said["model"] == MODEL
            yield said["address"]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
            assert errors == "stopped\n"
        finally:
            process.kill()


def test_health(run, node):
    result = run("health", node)
    assert (result.exit_code, result.stdout) == (0, f"{node}: SERVING\n")
    one = run("health", node, "--service", "hola.v1.VerifierService", "--json")
    assert json.loads(one.stdout)["status"] == "SERVING"


def test_health_of_what_is_not_there(run, node):
    result = run("health", node, "--service", "hola.v1.Nothing")
    assert result.exit_code == 6
    assert "hola.v1.Nothing" in result.stderr
    gone = run("health", "localhost:1", "--timeout", "0.5")
    assert gone.exit_code == 6
    assert "localhost:1" in gone.stderr
    assert run("health", "not an address").exit_code == 2


def test_a_remote_answer_is_the_embedded_one(run, node):
    ask = ("generate", "--raw", "--max-tokens", "24", "Tom has 12 apples.")
    remote = run(*ask, "--router", node, "--check-exact")
    assert remote.exit_code == 0, remote.stderr
    assert remote.stdout == run(*ask, "--model", MODEL).stdout
    assert "exact: yes" in remote.stderr
    through_setting = run(*ask, env={"HOLA_ROUTER": node})
    assert through_setting.stdout == remote.stdout


def test_resume_gives_the_rest_and_cancel_comes_too_late(run, node):
    asked = run("generate", "--raw", "--max-tokens", "24", "--json", "--router", node, "Hello")
    events = [json.loads(line) for line in asked.stdout.splitlines()]
    request_id = events[0]["request_id"]
    tokens = [token for event in events[1:-1] for token in event["tokens"]]
    rest = run("resume", request_id, "--position", "10", "--json", "--router", node)
    again = [json.loads(line) for line in rest.stdout.splitlines()]
    got = [token for event in again if event["event"] == "tokens" for token in event["tokens"]]
    assert got == tokens[10:]
    text = run("resume", request_id, "--position", "10", "--router", node)
    assert text.stdout == "".join(token["text"] for token in tokens[10:]) + "\n"
    assert "exact: yes" in text.stderr
    cancelled = run("cancel", request_id, "--router", node, "--json")
    assert json.loads(cancelled.stdout) == {"request_id": request_id, "cancelled": False}
    assert "had already ended" in run("cancel", request_id, "--router", node).stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("resume", "unknown-request"), 3),
        (("cancel", "unknown-request"), 3),
        (("resume", "bad id!"), 2),
        (("resume", "r", "--position", "-1"), 2),
    ],
)
def test_requests_that_are_not_there(run, node, arguments, code):
    result = run(*arguments, "--router", node)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("command", ["resume", "cancel"])
def test_a_router_must_be_named(run, command):
    result = run(command, "some-request")
    assert result.exit_code == 2
    assert "HOLA_ROUTER" in result.stderr


def test_an_address_others_can_reach_needs_consent(run):
    result = run("node", "--listen", "0.0.0.0:0", "--model", MODEL)
    assert result.exit_code == 2
    assert "HOLA_INSECURE" in result.stderr
