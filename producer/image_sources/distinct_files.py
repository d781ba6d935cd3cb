"""Check of the files of a command: it writes none that it reads, and none twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ..errors import InvalidInput


def check_distinct(outputs: Mapping[str, str | None], inputs: Iterable[str | None]) -> None:
    """Raise InvalidInput if a file to be written is also read, or is written twice.

    `outputs` are paths by the option that names them. Links to one file are that file; folders,
    pipes and devices do not count.
    """
    read = {_identity(path) for path in inputs if path is not None}
    writers: dict[object, str] = {}
    for option, path in outputs.items():
        if path is None or (identity := _identity(path)) is None:
            continue
        if identity in read:
            raise InvalidInput(f"{option} {path}: the command reads this file: choose another one")
        if identity in writers:
            raise InvalidInput(
                f"{option} {path}: {writers[identity]} names the same file: choose another one"
            )
        writers[identity] = option


def _identity(path: str) -> object:
    """Return a value that all names of a file share; None if it is not a regular file."""
    try:
        if os.path.isfile(path):
            status = os.stat(path)
            return status.st_dev, status.st_ino
        return None if os.path.exists(path) else os.path.realpath(path)
    except (OSError, ValueError):
        # A name that is invalid is reported where the file is opened.
        return None
