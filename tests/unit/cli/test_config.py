"""`hola config`: checks what a service would trip over, shows where values are from, no secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hola.config import variables
from hola_cli.config_reference import readers, reference
from hola_cli.main import app


def run(*arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(app, ["config", *arguments], env=environ)


def test_the_page_is_what_the_settings_say(repo_root: Path) -> None:
    page = (repo_root / "docs/CONFIG.md").read_text("utf-8")
    assert page == reference(), "run: python -m hola_cli.config_reference > docs/CONFIG.md"


def test_every_setting_has_a_description_and_somebody_who_reads_it() -> None:
    for row in variables():
        assert len(row.description) > 5, f"{row.name}: say what it means, in its Field"


def test_who_reads_a_setting_is_found_in_the_code() -> None:
    assert readers("kv_share") == ("router",)
    assert readers("session_ttl_s") == ("verifier",)
    assert readers("log_level") == ("router", "drafter", "verifier", "compressor")
    assert readers("reattach_s") == ()


def test_good_settings_pass(tmp_path: Path) -> None:
    file = tmp_path / "hola.toml"
    file.write_text('listen = "127.0.0.1:7070"\nthreads = 2\n')
    result = run("check", str(file))
    assert (result.exit_code, result.stdout) == (0, "3 settings, all usable\n")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"HOLA_THREADS": "many"}, "HOLA_THREADS='many' is not valid: expected integer, 0 to 1024"),
        ({"HOLA_LISTEN": "0.0.0.0:7070"}, "can be reached from other machines"),
        ({"HOLA_TLS_CERT": "/nowhere"}, "HOLA_TLS_KEY and HOLA_TLS_CA missing"),
        ({"HOLA_TENANTS": "/nowhere"}, "HOLA_TENANTS=/nowhere"),
        ({"HOLA_API_KEYS": "/nowhere"}, "HOLA_API_KEYS=/nowhere"),
        ({"HOLA_BUS": "carrier-pigeon:"}, "redis://"),
        ({"HOLA_METRICS_LISTEN": "9090"}, "HOLA_METRICS_LISTEN='9090'"),
        ({"HOLA_TRACE": "syslog:"}, "HOLA_TRACE=syslog:: expected file:PATH"),
    ],
)
def test_what_a_service_would_trip_over_is_found(environ: dict[str, str], told: str) -> None:
    result = run("check", **environ)
    assert result.exit_code == 2
    assert told in result.stderr


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    result = run("check", "--json", HOLA_METRICS_LISTEN="9090", HOLA_TENANTS="/nowhere")
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert not answer["ok"]
    assert len(answer["problems"]) == 2


def test_show_says_where_a_value_is_from_and_keeps_secrets(tmp_path: Path) -> None:
    file = tmp_path / "hola.toml"
    file.write_text("threads = 2\n")
    secret = "hunter2-hunter2"
    result = run(
        "show",
        str(file),
        "--all",
        "--json",
        HOLA_TOKEN=secret,
        HOLA_BUS=f"redis://hola:{secret}@redis:6379/0",
    )
    assert result.exit_code == 0
    assert secret not in result.stdout
    rows = {row["setting"]: row for row in json.loads(result.stdout)}
    assert len(rows) == len(variables())
    assert (rows["HOLA_THREADS"]["value"], rows["HOLA_THREADS"]["from"]) == ("2", str(file))
    assert (rows["HOLA_TOKEN"]["value"], rows["HOLA_TOKEN"]["from"]) == ("***", "environment")
    assert rows["HOLA_BUS"]["value"] == "redis://redis:6379/0"
    assert rows["HOLA_DRAIN_S"]["from"] == "default"
    assert rows["HOLA_LOG_LEVEL"]["reload"] == "SIGHUP"
