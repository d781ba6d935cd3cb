"""Output of data: lines on stdout, or a file that is replaced atomically."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InvalidInput

WriteJson = Callable[[Any], None]


class StdoutClosed(Exception):
    """A broken pipe: the reader of stdout has exited."""


def print_line(text: str) -> None:
    """Print a line of data; bytes of a path that are not UTF-8 are printed unchanged."""
    _print(text.encode("utf-8", "surrogateescape") + b"\n")


def print_part(text: str) -> None:
    """Print a part of a line of data; it appears at once."""
    _print(text.encode("utf-8", "surrogateescape"))


def print_json(value: Any) -> None:
    """Print a value as a line of JSON."""
    _print(_json_line(value))


@contextmanager
def json_lines_to(path: str | None) -> Iterator[WriteJson]:
    """Yield a writer of JSON lines to stdout (None or ``-``) or to a file.

    The file is written under a temporary name and replaces `path` when the block succeeds, so it
    is never incomplete. Raises InvalidInput before the block if it cannot be written.
    """
    if path in (None, "-"):
        yield print_json
        return
    with replaced_file(path or "") as file:

        def write(value: Any) -> None:
            file.write(_json_line(value))

        yield write


@contextmanager
def replaced_file(path: str) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block succeeds; it is never incomplete.

    Raises InvalidInput if it cannot be written, for most reasons before the block.
    """
    # If the path is a symbolic link, its target is replaced.
    target = Path(os.path.realpath(path))
    part = _create_part(target)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # The error of a write has a number and names no file; timeouts of a job have no number.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise InvalidInput(
                f"{target}: cannot be written: {error.strerror}; choose another file or disk"
            ) from None
        raise


def _create_part(target: Path) -> Path:
    """Create the temporary file in the directory of its target."""
    if target.exists() and not target.is_file():
        # A rename would replace a device by a file.
        raise InvalidInput(f"{target}: not a regular file; omit -o to write to stdout")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists():
            target.open("ab").close()
        part.open("xb").close()
    except OSError as error:
        raise InvalidInput(f"{target}: cannot be written: {error.strerror}") from None
    return part


def _json_line(value: Any) -> bytes:
    # UTF-8 cannot encode a lone surrogate; its JSON escape is equivalent.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _print(line: bytes) -> None:
    """Write to stdout; raises StdoutClosed, or InvalidInput if it cannot be written."""
    try:
        sys.stdout.buffer.write(line)
        # The reader of a pipe receives each line immediately, not when a buffer is full.
        sys.stdout.buffer.flush()
    except OSError as error:
        discard_stdout()
        if isinstance(error, BrokenPipeError):
            raise StdoutClosed from None
        raise InvalidInput(f"stdout: {error.strerror}") from None


def discard_stdout() -> None:
    """Redirect stdout to the null device, so that the interpreter's flush at exit succeeds."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
