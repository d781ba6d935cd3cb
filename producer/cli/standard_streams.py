"""Standard streams that the caller closed (`blipline … >&-`)."""

from __future__ import annotations

import os
import sys
from typing import Final

#: Name, flags and mode of each stream. Nothing is read from a closed stdin, messages to a closed
#: stderr are lost, and data for a closed stdout is an error: the descriptor is not writable.
_STREAMS: Final = (
    ("stdin", os.O_RDONLY, "r"),
    ("stdout", os.O_RDONLY, "w"),
    ("stderr", os.O_WRONLY, "w"),
)


def open_closed_streams() -> None:
    """Open the null device in place of each closed stream.

    Otherwise the next file or socket would get its descriptor, and what is printed.
    """
    for descriptor, (name, flags, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, flags)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
