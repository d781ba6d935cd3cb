"""How much the uploaded files of everybody may take on this machine's disk."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

#: Bytes of one upload, which may hold several files.
MAX_UPLOAD_BYTES: Final = 512 * 1024 * 1024
#: Bytes of all that lie there at once.
MAX_HELD_BYTES: Final = 4 * 1024 * 1024 * 1024
#: Seconds after which a file is nobody's: Gradio deletes what was uploaded well before, but knows
#: nothing of an upload that broke off.
FORGOTTEN_S: Final = 2 * 3600


def no_room(directory: str, length: int) -> str | None:
    """Why an upload of so many bytes cannot be taken; None where it can."""
    if length > MAX_UPLOAD_BYTES:
        return f"one upload may have {MAX_UPLOAD_BYTES // 2**20} MiB: choose fewer files at once"
    if tidy(directory) + length > MAX_HELD_BYTES:
        return "there is no room for more pictures now: try again in some minutes"
    return None


def tidy(directory: str) -> int:
    """Delete what was forgotten there; returns the bytes of the rest."""
    total, oldest = 0, time.time() - FORGOTTEN_S
    for place, _, names in os.walk(directory, topdown=False):
        for name in names:
            # Others delete there, too.
            with suppress(OSError):
                path = os.path.join(place, name)
                found = os.lstat(path)
                if found.st_mtime < oldest:
                    os.unlink(path)
                else:
                    total += found.st_size
        with suppress(OSError):
            if place != directory and os.lstat(place).st_mtime < oldest:
                os.rmdir(place)
    return total
