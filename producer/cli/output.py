"""Data out: lines on stdout, or in a file that appears only when it is complete."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InvalidInput

WriteJson = Callable[[Any], None]


class ReaderGone(Exception):
    """Whoever read stdout has gone away: nothing to talk about."""


def print_line(text: str) -> None:
    """A line of data; what a path holds that is not UTF-8 comes out as it came in."""
    _print(text.encode("utf-8", "surrogateescape") + b"\n")


def print_json(value: Any) -> None:
    """A value as a line of JSON."""
    _print(_json_line(value))


@contextmanager
def json_lines_to(path: str | None) -> Iterator[WriteJson]:
    """A writer of JSON lines: to stdout (None or ``-``), or to a file.

    The file is written beside its place and moved there when the block ends well: it is never
    half a file. Raises InvalidInput, before the block, when it cannot be written.
    """
    if path in (None, "-"):
        yield print_json
        return
    # A link stays one: its target is replaced.
    target = Path(os.path.realpath(path or ""))
    part = _create_beside(target)
    try:
        with part.open("wb") as file:
            yield lambda value: _append(file.write, value)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _create_beside(target: Path) -> Path:
    if target.exists() and not target.is_file():
        # Moving a file over a device would replace the device.
        raise InvalidInput(f"{target}: not a regular file; leave out -o to write to stdout")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists():
            target.open("ab").close()
        part.open("xb").close()
    except OSError as error:
        raise InvalidInput(f"{target}: cannot be written: {error.strerror}") from None
    return part


def _append(write: Callable[[bytes], int], value: Any) -> None:
    write(_json_line(value))


def _json_line(value: Any) -> bytes:
    # A lone surrogate has no UTF-8; its escape is JSON all the same.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _print(line: bytes) -> None:
    """Write to stdout; raises ReaderGone, or InvalidInput when it cannot be written."""
    try:
        sys.stdout.buffer.write(line)
        # Whoever reads a pipe gets each line when it is there, not when a buffer is full.
        sys.stdout.buffer.flush()
    except OSError as error:
        _forget_stdout()
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        raise InvalidInput(f"stdout: {error.strerror}") from None


def _forget_stdout() -> None:
    """The interpreter must not try again when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
