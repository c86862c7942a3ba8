"""A conversation as the prompt text a model was trained on, by its own chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hola.errors import ArtifactInvalid, EmptyPrompt, InvalidRequest
from hola.models.family import Family
from hola.types import ChatMessage

ROLES = ("system", "user", "assistant")
_TEMPLATE_FILE = "chat_template.jinja"
_CONFIG_FILE = "tokenizer_config.json"


class _RefusedByTemplate(Exception):
    """The template called raise_exception, e.g. for roles that do not alternate."""


def render_chat(family: Family, messages: Sequence[ChatMessage]) -> str:
    """Prompt text of a conversation, ending where the assistant's answer begins.

    The template comes with the target (chat_template.jinja or tokenizer_config.json) and runs in
    jinja2's sandbox, since a downloaded model is not trusted code. Special tokens written inside a
    message are not told apart from the template's own.
    Raises EmptyPrompt (no messages), InvalidRequest (a role that is unknown or that the template
    refuses), ArtifactInvalid (no template, or a broken one).
    """
    if not messages:
        raise EmptyPrompt("a conversation needs at least one message", field="messages")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidRequest(
                f"messages[{index}].role is {message.role!r}, must be one of {', '.join(ROLES)}",
                field=f"messages[{index}].role",
            )
    template, specials = _load(family.target.path)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return template.render(messages=turns, add_generation_prompt=True, **specials)
    except _RefusedByTemplate as error:
        raise InvalidRequest(
            f"{family.name} cannot take this conversation: {error}", field="messages"
        ) from error
    except Exception as error:  # a template is foreign code and may raise anything
        raise ArtifactInvalid(f"the chat template of {family.name} failed: {error}") from error


def render_turns(
    path: Path, turns: Sequence[tuple[str, str]], *, answer_begins: bool = False
) -> str:
    """Text of a conversation of (role, content) with the template of a model directory.

    As a model sees it in training, the last turn included and ended; with `answer_begins` it goes
    on to where the assistant's answer begins. A directory without a template gets the contents one
    after another, lines apart. Raises ArtifactInvalid.
    """
    config = _tokenizer_config(path)
    if not config.get("chat_template") and not (path / _TEMPLATE_FILE).is_file():
        return "\n".join([*(content for _, content in turns), *([""] if answer_begins else [])])
    template, specials = _load(path)
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return template.render(messages=messages, add_generation_prompt=answer_begins, **specials)
    except Exception as error:  # a template is foreign code and may raise anything
        raise ArtifactInvalid(f"the chat template of {path.name} failed: {error}") from error


@lru_cache(maxsize=16)
def _load(path: Path) -> tuple[Template, dict[str, str]]:
    """Compiled template of a tier's directory, and its special tokens by name."""
    config = _tokenizer_config(path)
    source = _template_source(path, config)
    try:
        template = compiled(source)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"chat template of {path.name}: {error.message}") from error
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return template, {name: _token_text(config.get(name)) for name in names}


@lru_cache(maxsize=32)
def compiled(source: str) -> Template:
    """A template in the sandbox. Raises ArtifactInvalid on a malformed one."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ArtifactInvalid(f"malformed: {error}") from error


def _tokenizer_config(path: Path) -> dict[str, Any]:
    file = path / _CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"{path.name}/{_CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ArtifactInvalid(f"{path.name}/{_CONFIG_FILE} is not an object")
    return config


def _template_source(path: Path, config: dict[str, Any]) -> str:
    file = path / _TEMPLATE_FILE
    try:
        source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactInvalid(f"{path.name}/{_TEMPLATE_FILE} cannot be read: {error}") from error
    if isinstance(source, list):  # several templates by name
        named = {entry.get("name"): entry.get("template") for entry in source if entry}
        source = named.get("default")
    if not isinstance(source, str):
        raise ArtifactInvalid(
            f"{path.name} has no chat template; send the prompt as plain text instead"
        )
    return source


def _token_text(token: object) -> str:
    if isinstance(token, dict):  # an added token in its long form
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _refuse(message: str) -> NoReturn:
    raise _RefusedByTemplate(message)


def _to_json(value: object, indent: int | None = None) -> str:
    """JSON as it is: jinja2's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
