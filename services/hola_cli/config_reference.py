"""Writes docs/CONFIG.md: `python -m hola_cli.config_reference > docs/CONFIG.md`.

Which services read a setting is found in the code: a service reads `settings.x` where its own
modules, or those of `hola` that they import, say so.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hola.config import DEFAULT_LISTEN, Settings, variables
from hola.settings_table import Variable

HEADER = """# Settings

<!-- Made by `python -m hola_cli.config_reference > docs/CONFIG.md`; a test compares. -->

One table for all services and commands. A value is taken from the first place that has one:

1. a **flag** of a service: `hola-router --log-level debug` (`--help` lists them; secrets have
   none),
2. the **environment**: `HOLA_LOG_LEVEL=debug`,
3. the **file** that `HOLA_CONFIG` names, TOML, names in small letters: `log_level = "debug"`,
4. the default.

An unknown name or a value outside its range stops the process, with the setting's name and what it
may be. `hola config check` says so beforehand, certificates, keys and limits of tenants included;
`hola config show` prints what is set and where each value comes from, secrets masked.

## Reloading

SIGHUP makes a running service, or `hola node`, read its file again, and the files that settings
marked **SIGHUP** name. The log says `settings_reloaded` with what changed and what waits for the
next start. Where anything is wrong it says `settings_not_reloaded` and why, nothing changes, and
`hola_config_reloads_total{outcome="refused"}` grows. **By itself**: the file is looked at once a
second, or read for every connection or call. The others count from the next start on.

## The table

Read by: r router, d drafter, v verifier, c compressor; "client": the `hola` command and HOLA's
clients.

| setting | default | unit | values | read by | reload | meaning |
|---|---|---|---|---|---|---|
"""


def reference() -> str:
    """The whole page as Markdown."""
    return HEADER + "".join(f"{_line(row)}\n" for row in variables())


def readers(field: str) -> tuple[str, ...]:
    """The services that read a setting; () where only clients do."""
    return tuple(service for service in DEFAULT_LISTEN if field in _read_by(service))


def _line(row: Variable) -> str:
    letters = row.read_by or " ".join(each[0] for each in readers(row.field)) or "client"
    default = f"`{row.default}`" if row.default else ""
    cells = (f"`{row.name}`", default, row.unit, row.form, letters, row.reload, row.description)
    return "| " + " | ".join(_cell(each) for each in cells) + " |"


@cache
def _read_by(service: str) -> frozenset[str]:
    """Fields that the modules of a service read, those it imports included."""
    todo = [f"hola_{service}.app", f"hola_{service}.__main__"]
    seen: set[str] = set()
    found: set[str] = set()
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            tree = _tree(module)
            found |= set(_fields(tree))
            todo += _imported(tree)
    return frozenset(found)


def _fields(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=field) if field in Settings.model_fields:
                if ast.unparse(node.value).endswith("settings"):
                    yield field


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("hola") and _path(name))


@cache
def _tree(module: str) -> ast.AST:
    path = _path(module)
    return ast.parse(path.read_text("utf-8")) if path else ast.Module([], [])


def _path(module: str) -> Path | None:
    """The module's source; None for what is no module (a class that is imported)."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found is not None and found.origin else None


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
