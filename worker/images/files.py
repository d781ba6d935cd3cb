"""Images from files under one root, wherever links, races and odd names try to lead."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote_to_bytes

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.image_budget import ImageReservation, read_within_budget

#: Bytes read at once.
PIECE_BYTES: Final = 1 << 16


class Files:
    """Reads regular files; thread-safe."""

    def __init__(self, root: Path | None, max_bytes: int) -> None:
        self._root = None if root is None else os.path.realpath(root)
        self._max_bytes = max_bytes

    def get(self, reference: str, held: ImageReservation) -> bytes:
        """What is behind `file:<path>`; raises Refused, whose message leaves out the reference."""
        if self._root is None:
            about = "this worker reads no files; BLIPLINE_IMAGE_ROOT allows a directory"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, about)
        path = _path(reference)
        try:
            with _opened(self._root, _parts(self._root, path)) as file:
                return self._read(file, held)
        except FileNotFoundError:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no such file") from None
        except OSError as error:
            # Not the whole error: it names the root.
            about = f"cannot be read: {error.strerror}"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None

    def _read(self, file: BinaryIO, held: ImageReservation) -> bytes:
        """What it has now: one that grows is not followed."""
        size = os.fstat(file.fileno()).st_size
        pieces = (file.read(min(PIECE_BYTES, size - at)) for at in range(0, size, PIECE_BYTES))
        return read_within_budget(
            pieces, held, self._max_bytes, piece_bytes=PIECE_BYTES, expected_bytes=size
        )


def _path(reference: str) -> str:
    """Raises Refused if the reference names another host, or no file."""
    _, _, path = reference.partition(":")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, "a file is on this machine: file:<path>")
        path = slash + rest
    if "?" in path or "#" in path:
        about = "no such file; in a file's name write %3F for ? and %23 for #"
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)
    name = unquote_to_bytes(path.encode("utf-8", "surrogatepass"))
    if not name or b"\0" in name:
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no such file")
    return os.fsdecode(name)


def _parts(root: str, path: str) -> list[str]:
    """The way from the root to where all links lead."""
    real = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([root, real]) != root:
        raise ItemRejected(ErrorCode.IMAGE_BLOCKED, "outside the image root")
    return [part for part in os.path.relpath(real, root).split(os.sep) if part != os.curdir]


def _opened(root: str, parts: list[str]) -> BinaryIO:
    """Step by step from the root, following no link: what was one a moment ago cannot lead out.

    The root itself may be reached by links: it is the operator's.
    """
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=place)
            os.close(place)
            place = inner
        return _regular(place, parts[-1] if parts else os.curdir)
    finally:
        os.close(place)


def _regular(place: int, name: str) -> BinaryIO:
    # To open a device may already do something, so it is looked at before and after.
    _check_regular(os.stat(name, dir_fd=place, follow_symlinks=False))
    # A pipe that nobody writes to would wait for ever without O_NONBLOCK.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(name, flags, dir_fd=place), "rb")
    try:
        _check_regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no regular file")
