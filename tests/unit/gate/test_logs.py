"""Logs: what is read, and the line that is named where something is wrong."""

from __future__ import annotations

import io
import sys

import pytest

from hola.errors import InvalidRequest
from hola.retrieval.gate.logs import LogEntry, read_logs


def test_every_key(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"question": "Who?", "none": 0, "light": 0.5, "deep": 1, "answer": "me",'
        ' "signals": {"u_nll_mean": 2}, "group": "g"}\n\n'
        '{"question": "Why?", "none": true, "light": 1, "answer": null, "deep": null}\n'
    )
    assert read_logs(tmp_path / "x.jsonl") == [
        LogEntry(
            question="Who?",
            none=0,
            light=0.5,
            deep=1,
            answer="me",
            signals={"u_nll_mean": 2},
            group="g",
        ),
        LogEntry(question="Why?", none=1, light=1),
    ]


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"question": "Q", "none": 0, "light": 1}'))
    assert [entry.question for entry in read_logs("-")] == ["Q"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("nonsense", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"none": 0, "light": 1}', "question is missing"),
        ('{"question": "  ", "none": 0, "light": 1}', "question is missing"),
        ('{"question": 7, "none": 0, "light": 1}', "question must be text"),
        ('{"question": "Q", "light": 1}', "none is missing"),
        ('{"question": "Q", "none": 0}', "light is missing"),
        ('{"question": "Q", "none": 0, "light": 2}', "light must be from 0 to 1"),
        ('{"question": "Q", "none": "0", "light": 1}', "none must be a finite number"),
        ('{"question": "Q", "none": NaN, "light": 1}', "none must be a finite number"),
        ('{"question": "Q", "none": 0, "light": 1, "signals": [1]}', "signals must be an object"),
        ('{"question": "Q", "none": 0, "light": 1, "signals": {"u": "x"}}', "signals.u must be"),
        (f'{{"question": "Q", "none": 1{"0" * 400}, "light": 1}}', "none must be a finite number"),
        ('{"question": "Q", "none": 0, "light": 1, "lite": 1}', "unknown key 'lite'"),
        ('{"question": "Q", "none": 0, "light": 1, "answer": 3}', "answer must be text"),
        ('{"question": "' + "x" * 1_000_001 + '"}', "more than 1000000 characters"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, what):
    file = tmp_path / "logs.jsonl"
    file.write_text('{"question": "fine", "none": 0, "light": 1}\n' + line + "\n")
    with pytest.raises(InvalidRequest, match=r"logs\.jsonl:2: ") as raised:
        read_logs(file)
    assert what in raised.value.message


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary"):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            read_logs(tmp_path / name)
