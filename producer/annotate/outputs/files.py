"""Files that are replaced atomically: a reader sees the old one or the new one, and no part."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final

from ...errors import BliplineError, InvalidInput

#: Errors of a write that concern one file; any other concerns the whole output.
_OF_FILE: Final = (errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


class OutputFailed(InvalidInput):
    """An output cannot be written: the run ends, and the same command resumes it."""


class FileRejected(BliplineError):
    """One file of an output cannot be written, for example because its name is too long."""


def write_file(path: str, data: bytes, identity: str) -> None:
    """Replace a file; raises OutputFailed or FileRejected.

    The temporary file of a folder has one name for each journal, so that a killed run leaves at
    most one, which the next run replaces. Its name is short: names have at most 255 bytes.
    """
    part = os.path.join(os.path.dirname(path), f".blipline-{identity}.part")
    with write_errors(path, part):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            # A write to a full disk may be short, and the next one raises ENOSPC.
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.replace(part, path)


@contextmanager
def replaced_file(
    path: str, identity: str, on_complete: Callable[[str], None] = lambda part: None
) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` when the block succeeds; raises OutputFailed.

    `on_complete` gets the path of the complete file just before it becomes `path`.
    """
    # If the path is a symbolic link, its target is replaced.
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        # A rename would replace a device by a file.
        raise OutputFailed(f"{path}: not a regular file: choose another one")
    part = os.path.join(os.path.dirname(target), f".blipline-{identity}.table.part")
    with write_errors(path, part):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        on_complete(part)
        os.replace(part, target)


class _Unchanged(Exception):
    """Leaves `replaced_file` without a change."""


def check_replaceable(path: str, identity: str) -> None:
    """Check that `replaced_file` can write a path, which stays as it is; raises OutputFailed."""
    with suppress(_Unchanged), replaced_file(path, identity):
        raise _Unchanged


def back_up(path: str) -> str:
    """Copy a file to a name that is not taken; return it; raises OutputFailed or FileRejected."""
    copy, number = f"{path}.bak", 1
    while os.path.lexists(copy):
        number += 1
        copy = f"{path}.bak{number}"
    with write_errors(copy, copy):
        shutil.copyfile(path, copy)
    return copy


@contextmanager
def write_errors(path: str, part: str) -> Iterator[None]:
    """Turn the errors of a write into OutputFailed or FileRejected; delete the temporary file."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        message = f"{path}: cannot be written: {error.strerror or error}"
        if error.errno in _OF_FILE:
            raise FileRejected(message) from None
        raise OutputFailed(f"{message}. {_remedy(error.errno)}") from None
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _remedy(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space; then the same command continues"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Choose another folder or file with -o"
    return "The same command continues once it can be written"
