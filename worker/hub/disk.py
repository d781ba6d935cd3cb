"""The disk of the hub's cache: free bytes, and failures as sentences."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

from worker.engine.errors import LoadError
from worker.hub.reference import HubModel

_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_disk(model: HubModel, folder: Path, needed_bytes: int) -> None:
    """Check that the disk of a folder, which it creates, has room. Raises LoadError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise LoadError(
            f"Model {model.title!r} needs {needed_bytes / 1e9:.2f} GB in {folder}, which has"
            f" {free / 1e9:.2f} GB free; free more, or set HF_HOME to another disk."
        )


def disk_problem(error: Exception, folder: Path | str) -> str | None:
    """Return the predicate of a model that a folder cannot store, or None for another error."""
    if not isinstance(error, OSError) or error.errno not in (*_DISK_FULL, *_UNWRITABLE):
        return None
    state = "is full" if error.errno in _DISK_FULL else "cannot be written"
    return f"cannot be stored: {folder} {state}; correct that, or set HF_HOME to another directory"
