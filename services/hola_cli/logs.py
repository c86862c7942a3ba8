"""Keeps services that run inside a command from talking over its output."""

from __future__ import annotations

import os

from hola.config import Settings
from hola.telemetry import configure_logging


def quiet(settings: Settings) -> None:
    """Logs on stderr, only errors unless HOLA_LOG_LEVEL says otherwise."""
    if not os.environ.get("HOLA_LOG_LEVEL"):
        settings = settings.model_copy(update={"log_level": "error"})
    configure_logging("cli", settings)
