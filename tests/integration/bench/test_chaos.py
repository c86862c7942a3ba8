"""The chaos bench, small: real processes without model files, a few faults, all judged."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hola.errors import InvalidRequest
from hola_bench.chaos import Options, failed, inside, run
from hola_cli.main import app

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

HEADLINE = ["streams", "faults", "wrong", "lost", "duplicated", "unfinished"]


def small(**changes: object) -> Options:
    few = {"verifiers": 2, "drafters": 2, "routers": 2, "together": 4, "streams": 8}
    return Options(models_dir="", model="scripted", **{"seed": 5, "faults": 2, **few, **changes})


def check(asked: Options, capfd) -> dict:
    report = run(asked)
    assert not failed(asked, report), json.dumps(report.as_json()) + capfd.readouterr().err
    assert report.headline["streams"] >= asked.streams
    assert report.details["trouble"] == ""
    return report.as_json()


def test_a_few_faults_behind_relays(capfd):
    found = check(small(network="relays"), capfd)
    assert list(found["headline"]) == [*HEADLINE, "client_errors", "stall_p99_s"]
    assert found["headline"]["faults"] == 2
    assert "skipped" in found["details"]["netem"]
    json.dumps(found)


def test_a_few_faults_in_network_namespaces(capfd):
    why = inside.refusal()
    if why:
        pytest.skip(f"no network namespaces: {why}")
    found = check(small(network="namespaces", faults=1), capfd)
    assert found["details"]["network"] == "namespaces"


def test_a_rolling_restart_is_not_noticed(capfd):
    asked = small(rolling=1, streams=12, network="relays")
    found = check(asked, capfd)
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
