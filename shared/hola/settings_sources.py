"""Where settings come from: flags before the environment before the file that HOLA_CONFIG names."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hola.errors import ConfigError
from hola.settings_table import PREFIX, Variable

CONFIG = "HOLA_CONFIG"
MAX_FILE_BYTES = 1024 * 1024

Table = Sequence[Variable]


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody set, as text, and where: a flag, "environment", or a file's path."""

    value: str
    origin: str


def gather(
    table: Table, environ: Mapping[str, str], flags: Mapping[str, str] | None = None
) -> dict[str, Given]:
    """What is set, by the variables' names; an empty value is unset.

    `flags` are by names as well. Raises ConfigError on a name that is not in the table, naming the
    nearest one, and on a file that cannot be used.
    """
    flags = flags or {}
    said = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    _check_known(table, said, "unknown setting {}")
    path = (flags.get(CONFIG) or said.get(CONFIG, "")).strip()
    found = _from_file(table, path) if path else {}
    found |= {name: Given(value, "environment") for name, value in said.items() if value.strip()}
    origins = {variable.name: variable.flag for variable in table}
    found |= {name: Given(value, origins[name]) for name, value in flags.items() if value.strip()}
    return found


def parse_flags(
    table: Table, arguments: Sequence[str], *, program: str, about: str
) -> dict[str, str]:
    """Read `--log-level debug` and so on, one flag per setting but the secret ones.

    --help and --version print and end the process. Raises ConfigError on anything else.
    """
    from hola import __version__

    parser = _Parser(prog=program, description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    for variable in table:
        if not variable.is_secret:
            text = f"{variable.description} [{variable.form}; {variable.name}]"
            parser.add_argument(
                variable.flag,
                metavar="VALUE",
                dest=variable.name,
                help=text.replace("%", "%%"),
                action=_Once,
            )
    return {name: value for name, value in vars(parser.parse_args(arguments)).items() if value}


class _Parser(argparse.ArgumentParser):
    """Errors are ConfigErrors."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}: `{self.prog} --help` lists the flags")


class _Once(argparse.Action):
    """Keeps the value of a flag; twice is a mistake."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        if getattr(namespace, self.dest, None) is not None:
            parser.error(f"{option} is there twice")
        setattr(namespace, self.dest, values)


def _from_file(table: Table, path: str) -> dict[str, Given]:
    """TOML with the settings' names in small letters: `log_level = "debug"`."""
    values = _read(path)
    names = {variable.field: variable for variable in table}
    _check_known(
        table, {PREFIX + key.upper(): "" for key in values}, f"{path}: unknown setting {{}}"
    )
    found: dict[str, Given] = {}
    for key, value in values.items():
        if key not in names:
            raise _unusable(path, f"{key}: names are written in small letters")
        if names[key].name == CONFIG:
            raise _unusable(path, f"{key}: a file cannot name another one")
        found[names[key].name] = Given(_text(path, names[key], value), path)
    return {name: given for name, given in found.items() if given.value.strip()}


def _read(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise _unusable(path, f"larger than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unusable(path, str(error)) from None


def _text(path: str, variable: Variable, value: object) -> str:
    """The value as an environment would hold it."""
    if isinstance(value, bool):
        if variable.form != "0 or 1":
            raise _unusable(path, f"{variable.field} = {str(value).lower()}: {_expected(variable)}")
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise _unusable(path, f"{variable.field}: {_expected(variable)}, not a list, table or date")


def _expected(variable: Variable) -> str:
    return f"expected {variable.form} ({variable.description})"


def _check_known(table: Table, given: Mapping[str, str], text: str) -> None:
    known = [variable.name for variable in table]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
            raise ConfigError(
                f"{text.format(name)}: did you mean {near[0]}? `hola config show --all` lists them",
                variable=name,
                nearest=near[0],
            )


def _unusable(path: str, why: str) -> ConfigError:
    return ConfigError(f"{CONFIG}={path}: {why}", variable=CONFIG, value=path)
