"""Image files under a root directory, safe from path traversal, symbolic links and races."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from producer.contract import ErrorCode
from producer.contract.file_reference import local_path
from worker.errors import ItemRejected
from worker.images.image_budget import ImageReservation, read_within_budget

#: Bytes per read.
PIECE_BYTES: Final = 1 << 16


class Files:
    """A reader of regular files; thread-safe."""

    def __init__(self, root: Path | None, max_bytes: int) -> None:
        self._root = None if root is None else os.path.realpath(root)
        self._max_bytes = max_bytes

    def get(self, reference: str, reservation: ImageReservation) -> bytes:
        """Read `file:<path>`.

        Raises ItemRejected, whose message leaves out the reference.
        """
        if self._root is None:
            message = "this worker reads no files; BLIPLINE_IMAGE_ROOT sets the allowed directory"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, message)
        path = _parse_path(reference)
        try:
            with _open_beneath(self._root, _resolve(self._root, path)) as file:
                return self._read(file, reservation)
        except FileNotFoundError:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no such file") from None
        except OSError as error:
            # Only the reason: the full error contains the image root.
            message = f"cannot be read: {error.strerror}"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None

    def _read(self, file: BinaryIO, reservation: ImageReservation) -> bytes:
        """Read the file up to its current size; later growth is ignored."""
        size = os.fstat(file.fileno()).st_size
        pieces = (
            file.read(min(PIECE_BYTES, size - start)) for start in range(0, size, PIECE_BYTES)
        )
        return read_within_budget(
            pieces, reservation, self._max_bytes, piece_bytes=PIECE_BYTES, expected_bytes=size
        )


def _parse_path(reference: str) -> str:
    """Return the path of a `file:` reference.

    Raises ItemRejected if the reference names another host or has no path.
    """
    name = local_path(reference)
    if name is None:
        raise ItemRejected(ErrorCode.IMAGE_BLOCKED, "a file must be local: file:<path>")
    if "?" in reference or "#" in reference:
        message = "no such file; in a file name, write %3F for ? and %23 for #"
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)
    if not name or b"\0" in name:
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no such file")
    return os.fsdecode(name)


def _resolve(root: str, path: str) -> list[str]:
    """Return the parts of the path below the root, with all links resolved."""
    real = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([root, real]) != root:
        raise ItemRejected(ErrorCode.IMAGE_BLOCKED, "the file is outside the image root")
    return [part for part in os.path.relpath(real, root).split(os.sep) if part != os.curdir]


def _open_beneath(root: str, parts: list[str]) -> BinaryIO:
    """Open a file part by part from the root, without following links.

    A part that has become a link since it was resolved cannot lead out of the root. The root itself
    may contain links, because the operator sets it.
    """
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = inner
        return _open_regular(directory, parts[-1] if parts else os.curdir)
    finally:
        os.close(directory)


def _open_regular(directory: int, name: str) -> BinaryIO:
    # Opening a device may have side effects, so the type is checked before and after opening.
    _check_regular(os.stat(name, dir_fd=directory, follow_symlinks=False))
    # Without O_NONBLOCK, opening a pipe that has no writer would block forever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(name, flags, dir_fd=directory), "rb")
    try:
        _check_regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "not a regular file")
