"""Memory with known contents, so that a picture that shows some of it differs from run to run."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: The number of the option in glibc's malloc.h.
_M_PERTURB: Final = -6


@contextmanager
def filled_memory(value: int) -> Iterator[None]:
    """Let glibc fill memory that it frees with a byte, and allocated memory with its inverse.

    Memory that a process allocates is mostly zero otherwise.
    """
    set_option = ctypes.CDLL(None).mallopt
    assert set_option(_M_PERTURB, value)
    try:
        yield
    finally:
        set_option(_M_PERTURB, 0)
