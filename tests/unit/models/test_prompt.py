"""Chat templates: rendered as the model wants, sandboxed, and wrong input is a typed error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hola.errors import ArtifactInvalid, EmptyPrompt, InvalidRequest
from hola.models.family import Family
from hola.models.prompt import render_chat
from hola.types import ChatMessage
from tests.support.family_files import write_family

HELLO = (ChatMessage(role="user", content="Hi {{ 7 * 7 }}"),)


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return write_family(tmp_path)


def with_template(family: Family, template: object, **config: object) -> Family:
    file = family.target.path / "tokenizer_config.json"
    file.write_text(json.dumps({"chat_template": template, **config}))
    return family


def test_conversation(family: Family) -> None:
    messages = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hi"),
        ChatMessage(role="assistant", content="Hello"),
        ChatMessage(role="user", content="Bye"),
    ]
    assert render_chat(family, messages) == (
        "<s><system>Be brief.</s><user>Hi</s><assistant>Hello</s><user>Bye</s><assistant>"
    )


def test_content_is_never_a_template(family: Family) -> None:
    assert "Hi {{ 7 * 7 }}" in render_chat(family, HELLO)


def test_template_file_comes_first(family: Family) -> None:
    (family.target.path / "chat_template.jinja").write_text("from the file")
    assert render_chat(family, HELLO) == "from the file"


def test_long_form_tokens_and_named_templates(family: Family) -> None:
    templates = [
        {"name": "tool_use", "template": "no"},
        {"name": "default", "template": "{{ bos_token }}|{{ messages | tojson }}"},
    ]
    with_template(family, templates, bos_token={"content": "<b>"})
    assert render_chat(family, [ChatMessage(role="user", content="a<b>é")]) == (
        '<b>|[{"role": "user", "content": "a<b>é"}]'
    )


@pytest.mark.parametrize("role", ["", "User", "tool", "root\n"])
def test_unknown_role(family: Family, role: str) -> None:
    messages = [*HELLO, ChatMessage(role=role, content="x")]
    with pytest.raises(InvalidRequest) as caught:
        render_chat(family, messages)
    assert caught.value.details["field"] == "messages[1].role"


def test_no_messages(family: Family) -> None:
    with pytest.raises(EmptyPrompt):
        render_chat(family, [])


def test_template_that_refuses_the_conversation(family: Family) -> None:
    with_template(family, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        render_chat(family, HELLO)


@pytest.mark.parametrize(
    "template",
    [
        "{% for %}",
        "{{ messages.missing.deeper }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 1 / 0 }}",
        None,
        17,
        [{"name": "tool_use", "template": "x"}],
    ],
)
def test_broken_or_hostile_template(family: Family, template: object) -> None:
    with_template(family, template)
    with pytest.raises(ArtifactInvalid):
        render_chat(family, HELLO)


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff"])
def test_garbage_tokenizer_config(family: Family, data: bytes) -> None:
    (family.target.path / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(ArtifactInvalid):
        render_chat(family, HELLO)


def test_no_template_at_all(family: Family) -> None:
    (family.target.path / "tokenizer_config.json").unlink()
    with pytest.raises(ArtifactInvalid, match="plain text"):
        render_chat(family, HELLO)
