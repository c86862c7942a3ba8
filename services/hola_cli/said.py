"""What somebody has set, where a command does something else when nobody has."""

from __future__ import annotations

import os


def said(name: str) -> str:
    """The value that the environment or the file of HOLA_CONFIG gives; empty where neither does.

    Raises ConfigError on a setting or file that cannot be used.
    """
    # Imported here: not every command needs settings, and they take a while to load.
    from hola.config import variables
    from hola.settings_sources import gather

    given = gather(variables(), os.environ).get(name)
    return given.value.strip() if given else ""
