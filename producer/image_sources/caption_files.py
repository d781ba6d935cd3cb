"""Caption files beside images, as trainers read them: `cat.txt` or `cat.caption` for `cat.jpg`."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from ..errors import InvalidInput

#: Suffixes of caption files, in the order of preference.
CAPTION_SUFFIXES: Final = (".txt", ".caption")
#: Maximum bytes of a caption file that are read.
MAX_CAPTION_BYTES: Final = 1 << 20
#: Errors of a file that does not exist; no file can have a name that is too long.
_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def read_caption(path: str) -> str | None:
    """Return the text of a caption file; None if it does not exist, or is empty.

    Raises InvalidInput if the file cannot be read.
    """
    return _decode(_read(path)).strip() or None


def captions_beside(image: str) -> list[str]:
    """Return the lines of an image's caption file, each a text; empty without such a file.

    Raises InvalidInput if the file cannot be read.
    """
    for path in caption_names(image):
        if lines := lines_of(_read(path)):
            return lines
    return []


def caption_names(image: str) -> list[str]:
    """Return the names of the caption files that an image may have, in the order of preference.

    `cat.png.txt` comes before `cat.txt`, which may be that of `cat.jpg`.
    """
    return [
        stem + suffix for stem in (image, os.path.splitext(image)[0]) for suffix in CAPTION_SUFFIXES
    ]


def lines_of(data: bytes) -> list[str]:
    """Return the lines of a caption file that are not blank."""
    return [line.strip() for line in _decode(data).split("\n") if line.strip()]


def _read(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a pipe can block forever.
            raise InvalidInput(f"{path}: not a regular file")
        with open(path, "rb") as file:
            return file.read(MAX_CAPTION_BYTES)
    except OSError as error:
        if error.errno in _NO_FILE:
            return b""
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def _decode(data: bytes) -> str:
    return data.decode("utf-8-sig", "surrogateescape")
