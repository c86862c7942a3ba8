"""Keeps services that run inside a command from talking over its output."""

from __future__ import annotations

from hola.config import Settings
from hola.telemetry import configure_logging
from hola_cli.said import said


def quiet(settings: Settings) -> None:
    """Logs on stderr, only errors unless HOLA_LOG_LEVEL says otherwise."""
    if not said("HOLA_LOG_LEVEL"):
        settings = settings.model_copy(update={"log_level": "error"})
    configure_logging("cli", settings)
