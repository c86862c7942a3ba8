"""Every benchmark's result has one form."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from importlib import import_module

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hola import __version__
from hola.errors import InvalidRequest
from hola_bench import registry
from hola_bench.report import Report, cpu_model, machine, print_report, rounded, spread
from hola_cli.main import app

REPORT = Report(
    bench="x",
    seed=3,
    repeats=2,
    headline={"ratio": 1.5},
    details={
        "table": [{"name": "a", "value": 1.25, "rate": spread([8.5, 8.5])}],
        "pairs": {"k": True},
        "note": "fine",
    },
)


def test_the_object_has_exactly_the_agreed_keys():
    found = REPORT.as_json()
    keys = ["bench", "version", "machine", "seed", "repeats", "headline", "details"]
    assert list(found) == keys
    assert found["version"] == __version__
    assert json.loads(json.dumps(found)) == found


def test_the_machine_is_described():
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["memory_mib"] > 100
    assert facts["cpu"]
    assert {"python", "onnxruntime", "numpy"} <= set(facts)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel : 2\nmodel name : Fast One\n", "Fast One"),
        ("processor : 0\nModel : Raspberry Pi 5\n", "Raspberry Pi 5"),
    ],
)
def test_the_processors_name(tmp_path, text, name):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == name


def test_a_processor_without_a_name_is_called_by_its_architecture(tmp_path):
    assert cpu_model(tmp_path / "missing")


def test_tables_show_every_number():
    file = io.StringIO()
    print_report(REPORT, Console(file=file, width=120))
    for text in ("ratio", "1.5", "value", "1.25", "8.5 (8.5 to 8.5)", "yes", "fine"):
        assert text in file.getvalue()


def test_spread():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0}
    assert rounded(123456.0, 3) == 123000.0


@pytest.mark.parametrize("bench", registry.BENCHES, ids=lambda bench: bench.name)
def test_every_registered_benchmark_can_be_run(bench, repo_root):
    module = import_module(bench.module)
    assert callable(module.run)
    assert {"models_dir", "model", "seed"} <= {field.name for field in fields(module.Options)}
    assert f"`{bench.name}`" in (repo_root / "bench/README.md").read_text("utf-8")


def test_the_command_lists_them():
    found = CliRunner().invoke(app, ["bench", "list", "--json"])
    names = [bench["name"] for bench in json.loads(found.stdout)]
    assert names == [bench.name for bench in registry.BENCHES]
    assert {"exactness", "speed", "chaos", "load"} <= set(names)
    assert "exactness" in CliRunner().invoke(app, ["bench", "list"]).stdout


def test_an_unknown_benchmark_names_the_known_ones():
    with pytest.raises(InvalidRequest, match="exactness, speed"):
        registry.find("speeed")
