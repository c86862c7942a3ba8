"""What a client shows a server: HOLA_TOKEN, or the content of HOLA_TOKEN_FILE as it is now."""

from __future__ import annotations

from hola.config import Settings
from hola.errors import ConfigError
from hola.security.authenticate import MAX_CREDENTIAL_CHARS
from hola.security.watched import Watched, read_file

AUTHORIZATION = "authorization"


class Credential:
    """The client's key or token, as call metadata."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError when both variables are set, or what they hold cannot be sent."""
        if settings.token and settings.token_file:
            raise ConfigError(
                "HOLA_TOKEN and HOLA_TOKEN_FILE are both set: one of them", variable="HOLA_TOKEN"
            )
        self._text = _sendable(settings.token, "HOLA_TOKEN") if settings.token else ""
        self._file: Watched[str] | None = None
        if path := settings.token_file:
            self._file = Watched([path], lambda: _read(path))

    def __bool__(self) -> bool:
        return bool(self._text) or self._file is not None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The authorization header; nothing without a credential. Looks at the file."""
        if self._file is not None:
            self._file.refresh()
            return ((AUTHORIZATION, f"Bearer {self._file.value}"),)
        return ((AUTHORIZATION, f"Bearer {self._text}"),) if self._text else ()


def _read(path: str) -> str:
    content = read_file(path, "HOLA_TOKEN_FILE", MAX_CREDENTIAL_CHARS + 2)
    return _sendable(content.decode("latin-1").strip(), "HOLA_TOKEN_FILE")


def _sendable(text: str, variable: str) -> str:
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or not 0 < len(text) <= MAX_CREDENTIAL_CHARS:
        raise ConfigError(
            f"{variable} holds no key or token: expected 1 to {MAX_CREDENTIAL_CHARS} printable"
            " ASCII characters without blanks",
            variable=variable,
        )
    return text
