"""Question files: every form is read, garbage is refused, answers are compared as people would."""

from __future__ import annotations

import json

import pytest

from hola.compression.questions import final_answer, is_right, read_questions, same_answer
from hola.errors import DocumentInvalid


def write(tmp_path, *entries):
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(json.dumps(entry) for entry in entries) + "\n", encoding="utf-8")
    return file


def test_gsm8k_keeps_only_the_final_answer(tmp_path):
    file = write(tmp_path, {"question": "How many?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"})
    (question,) = read_questions(file)
    assert (question.prompt, question.answer, question.metric) == ("How many?", "1,004", "ema")


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b"])
def test_only_a_newline_ends_a_line(tmp_path, end):
    file = tmp_path / "questions.jsonl"
    entry = {"question": f"How{end}many?", "answer": "#### 4"}
    file.write_text(json.dumps(entry, ensure_ascii=False) + "\r\n", encoding="utf-8", newline="")
    (question,) = read_questions(file)
    assert question.prompt.startswith("How")


@pytest.mark.parametrize(
    "entry",
    [
        {"question": "Why?", "choices": ["wet", "dry"], "answer": 1},
        {"question": "Why?", "choices": {"text": ["wet", "dry"], "label": ["A", "B"]},
         "answerKey": "B"},
        {"question": {"stem": "Why?", "choices": [{"text": "wet", "label": "1"},
                                                  {"text": "dry", "label": "2"}]},
         "answerKey": "2"},
    ],
)  # fmt: skip
def test_arc_in_its_three_forms(tmp_path, entry):
    (question,) = read_questions(write(tmp_path, entry))
    assert (question.prompt, question.answer) == ("Why?", "dry")
    assert question.choices == ("wet", "dry")
    assert question.metric == "mca"


def test_a_limit_takes_the_same_questions_every_time(tmp_path):
    entries = [{"prompt": str(number), "answer": "x"} for number in range(10)]
    found, again = (read_questions(write(tmp_path, *entries), limit=4) for _ in range(2))
    assert found == again
    assert len({question.prompt for question in found}) == 4
    assert len(read_questions(write(tmp_path, *entries), limit=99)) == 10


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "[" * 100_000,
        '{"prompt": "x"}',
        '{"prompt": "", "answer": "x"}',
        '{"prompt": "x", "answer": 4}',
        '{"question": "x", "choices": null, "answer": 0}',
        '{"question": "x", "choices": [], "answer": 0}',
        '{"question": "x", "choices": ["one"], "answer": 0}',
        '{"question": "x", "choices": ["a", "b"], "answer": 2}',
        '{"question": "x", "choices": ["a", "b"]}',
        '{"question": "x", "choices": {"text": ["a", "b"]}, "answerKey": "A"}',
        '{"question": {"stem": "x"}, "answerKey": "A"}',
    ],
)
def test_garbage_is_refused_with_its_place(tmp_path, line):
    file = tmp_path / "bad.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DocumentInvalid, match=r"bad\.jsonl"):
        read_questions(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    for name in ("latin.jsonl", "missing.jsonl"):
        with pytest.raises(DocumentInvalid, match=name):
            read_questions(tmp_path / name)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("6*7=42. The answer is 42.", "42"),
        ("The answer is 3. No: the answer is 4.50. ", "4.50"),
        ("The answer is: Marsden", "Marsden"),
        ("so it is 3, then 1,200 in all", "1,200"),
        ("Working.\n#### -7", "-7"),
        ("dry", "dry"),
        ("", ""),
    ],
)
def test_the_final_answer_of_a_reply(reply, answer):
    assert final_answer(reply) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("42", "42.0", True),
        ("$1,200", "1200", True),
        ("50%", "50", True),
        ("Marsden", "marsden", True),
        ("D", "D.", True),
        ("42", "43", False),
        ("42", "forty-two", False),
        ("", "4", False),
    ],
)
def test_answers_are_compared_by_value(one, other, same):
    assert same_answer(one, other) is same


def test_a_reply_is_judged_by_its_final_answer(tmp_path):
    (question,) = read_questions(write(tmp_path, {"prompt": "6*7?", "answer": "42"}))
    assert is_right(question, "6*7=42. The answer is 42.")
    assert not is_right(question, "42 is not it. The answer is 41.")
