"""Standard output and error that never fail and never wait.

The reader of a log may be gone (`2>&1 | tee`, Ctrl-C), stand still, or have a full disk. An
exception or a wait in a log call would then hold up the end of a process, or end it without a word.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Final

STDOUT_FILENO: Final = 1
STDERR_FILENO: Final = 2
#: A pipe that is ready takes this many bytes without a wait: PIPE_BUF of Linux.
PIECE_BYTES: Final = 4096
#: Maximum milliseconds to wait for a reader that stands still; then its output is dropped until it
#: reads again.
WAIT_MS: Final = 200


class LossyStream:
    """A text stream to a file descriptor that drops what cannot be written.

    It has no `fileno`: Celery would write to the descriptor itself.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._wait_ms = WAIT_MS

    def write(self, text: str) -> int:
        """Write a text, or as much of it as the descriptor takes; return its length."""
        data = text.encode(self.encoding, self.errors)
        while data and self._is_ready():
            try:
                data = data[os.write(self._descriptor, data[:PIECE_BYTES]) :]
            except OSError:
                break
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def _is_ready(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        ready = bool(poll.poll(self._wait_ms))
        self._wait_ms = WAIT_MS if ready else 0
        return ready


def protect() -> None:
    """Replace this process's standard output and error by lossy streams."""
    for name, descriptor in (("stdout", STDOUT_FILENO), ("stderr", STDERR_FILENO)):
        if getattr(sys, f"__{name}__") is None:
            descriptor = _null(descriptor)
        stream = LossyStream(descriptor)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _null(descriptor: int) -> int:
    """Return a descriptor of /dev/null for a closed one, and the same number if it is free."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(descriptor)
    except OSError:
        os.dup2(null, descriptor)
        os.close(null)
        return descriptor
    # A file that was opened since, or /dev/null itself.
    return null
