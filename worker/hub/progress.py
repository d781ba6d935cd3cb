"""Progress of a download in the log."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final, Self

from worker.hub.reference import HubModel

#: Seconds between two lines.
REPORT_S: Final = 10.0

log = logging.getLogger(__name__)


class DownloadProgress:
    """A thread that logs the bytes that a download has added to a folder of the cache."""

    def __init__(self, model: HubModel, folder: Path, total_bytes: int) -> None:
        self._model, self._folder, self._total = model, folder, total_bytes
        self._initial = folder_bytes(folder)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="download progress", daemon=True)

    def __enter__(self) -> Self:
        if self._total:
            size = format_megabytes(self._total)
            log.info("%s: %s to download into %s", self._model, size, self._folder.parent)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(REPORT_S):
            loaded = format_megabytes(folder_bytes(self._folder) - self._initial)
            log.info("%s: %s of %s", self._model, loaded, format_megabytes(self._total))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder; 0 if there is none."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            # Renamed since.
            continue
    return total


def format_megabytes(count: int) -> str:
    """Format bytes in units of 10**6."""
    return f"{max(count, 0) / 1e6:.1f} MB"
