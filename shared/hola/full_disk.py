"""Whether a failure, of any library or of a process, says that a disk is full."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from hola.errors import NoDiskSpace

_CODES = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left on device", "disk quota exceeded")  # as safetensors and others say it


def is_full(failure: BaseException | str) -> bool:
    """An error, or what a process printed."""
    return getattr(failure, "errno", None) in _CODES or any(
        words in str(failure).lower() for words in _WORDS
    )


def no_space(folder: Path, message: str) -> NoDiskSpace:
    """The error for `folder`, which may not be there yet, with what is free there now."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    return NoDiskSpace(f"{message}; {free} bytes are free now", available_bytes=free, path=folder)
