"""Prompts come from the argument or stdin, as UTF-8 or not at all; answers are compared by id."""

from __future__ import annotations

import pytest

from hola.types import ChatMessage, Outcome, TokenEvent
from hola_cli.answer import Answer
from hola_cli.chat import Conversation
from hola_cli.generate import first_difference, read_prompt


@pytest.mark.parametrize("text", ["hi", "a\nb", "é", "-x"])
def test_an_argument_is_the_prompt(text):
    assert read_prompt(text) == text


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [(b"", 2, "empty"), (b" \n", 2, "empty"), (b"ab\xff", 2, "0xff at offset 2")],
)
def test_bad_prompts_on_stdin(run, given, code, word):
    result = run("generate", "-", input=given)
    assert result.exit_code == code
    assert word in result.stderr


def test_an_argument_that_is_no_utf8(run):
    result = run("generate", "caf\udce9")
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_a_raw_prompt_takes_no_system_message(run):
    result = run("generate", "--raw", "--system", "be brief", "hi")
    assert result.exit_code == 2
    assert "--raw" in result.stderr


@pytest.mark.parametrize(
    ("ours", "theirs", "at"),
    [((), (), None), ((1, 2), (1, 2), None), ((1, 2), (1, 3), 1), ((1,), (1, 2), 1), ((9,), (), 0)],
)
def test_first_difference(ours, theirs, at):
    assert first_difference(ours, theirs) == at


def answer(text: str) -> Answer:
    return Answer(tokens=[TokenEvent(token=1, text=text, tier=0, outcome=Outcome.PLAIN)])


def test_a_conversation_keeps_what_was_answered_and_reset_forgets_it():
    talk = Conversation(system="Be brief.")
    system = ChatMessage(role="system", content="Be brief.")
    assert talk.asked("Who?") == (system, ChatMessage(role="user", content="Who?"))
    talk.answered("Who?", answer("Ada."))
    assert [message.role for message in talk.asked("When?")] == [
        "system", "user", "assistant", "user",
    ]  # fmt: skip
    talk.reset()
    assert talk.messages == [system]


def test_an_empty_answer_is_not_kept():
    talk = Conversation()
    talk.answered("Who?", answer(""))
    assert talk.messages == []
