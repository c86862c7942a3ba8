"""The chaos bench, small: real processes without model files, a few faults, all judged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from hola.errors import InvalidRequest
from hola_bench.chaos import Options, inside, run
from hola_cli.main import app

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

HEADLINE = ["streams", "faults", "wrong", "lost", "duplicated", "unfinished"]


def small(**changes: object) -> Options:
    few = {"verifiers": 2, "drafters": 2, "routers": 2, "together": 4, "streams": 8}
    return Options(models_dir="", model="scripted", **{"seed": 5, "faults": 2, **few, **changes})


# In a process of its own: gRPC brings events of calls that other tests left behind to whatever loop
# runs, where one of a loop that is closed ends in an error, with events behind it that are ours.
RUN = """
import json, sys
from hola_bench.chaos import Options, failed, run
asked = Options(**json.loads(sys.argv[1]))
report = run(asked)
print(json.dumps({"failed": failed(asked, report), "report": report.as_json()}))
"""


def check(asked: Options) -> dict:
    command = [sys.executable, "-c", RUN, json.dumps(asdict(asked))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert not answer["failed"], done.stdout + done.stderr
    found: dict = answer["report"]
    assert found["headline"]["streams"] >= asked.streams
    assert found["details"]["trouble"] == ""
    return found


def test_a_few_faults_behind_relays():
    found = check(small(network="relays"))
    assert list(found["headline"]) == [*HEADLINE, "client_errors", "stall_p99_s"]
    assert found["headline"]["faults"] == 2
    assert "skipped" in found["details"]["netem"]
    json.dumps(found)


def test_a_few_faults_in_network_namespaces():
    why = inside.refusal()
    if why:
        pytest.skip(f"no network namespaces: {why}")
    found = check(small(network="namespaces", faults=1))
    assert found["details"]["network"] == "namespaces"


def test_a_rolling_restart_is_not_noticed():
    asked = small(rolling=1, streams=12, network="relays")
    found = check(asked)
    assert found["headline"]["faults"] == 2
    assert found["headline"]["client_errors"] == 0


def test_an_unknown_network_is_refused():
    with pytest.raises(InvalidRequest, match="choose auto, namespaces, relays"):
        run(small(network="carrier-pigeon"))


def test_the_command_says_what_it_found():
    arguments = "--scripted --faults 0 --streams 2 --drafters 1 --verifiers 1 --routers 1"
    found = CliRunner().invoke(
        app, ["bench", "chaos", "--json", "--network", "relays", *arguments.split()]
    )
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["headline"]["unfinished"] == 0
