"""The files of the models that the settings name, downloaded by a child process if necessary."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from config.settings import WorkerSettings
from worker.hub.adapters import compose
from worker.hub.cache import find_snapshot
from worker.hub.reference import HubModel, Snapshot
from worker.processes.child import Child
from worker.processes.supervisor import Stopped

#: Maximum seconds for a download to end; a killed one leaves only files that are not used.
DOWNLOAD_GRACE_S: Final = 1.0


class ModelFiles:
    """The directories of the models and adapters of the settings."""

    def __init__(self, settings: WorkerSettings, run_dir: Path) -> None:
        self._checkpoints = settings.checkpoints()
        self._environment = settings.environment()
        self._state_file = run_dir / "download.state"

    def resolve(self, descriptor: int, pause: Callable[[], bool]) -> list[Path]:
        """Return the directory of each model and adapter, after downloads if necessary.

        Raises LoadError; ChildFailed if they cannot be downloaded; Stopped if `pause` is true.
        """
        directories = []

        def find(model: Snapshot | HubModel) -> Snapshot:
            if isinstance(model, Snapshot):
                snapshot = model
            else:
                snapshot = self._download(model, descriptor, pause)
            directories.append(snapshot.directory)
            return snapshot

        for checkpoint in self._checkpoints:
            compose(*checkpoint, find)
        return directories

    def _download(self, model: HubModel, descriptor: int, pause: Callable[[], bool]) -> Snapshot:
        command = [sys.executable, "-m", "worker", "download", model.title]
        command += [f"--revision={model.revision}", "--without-base"]
        download = Child(f"download of {model}", command, self._environment, self._state_file)
        try:
            while (snapshot := find_snapshot(model)) is None:
                download.supervise(descriptor)
                if pause():
                    raise Stopped
            return snapshot
        finally:
            download.end(DOWNLOAD_GRACE_S)
