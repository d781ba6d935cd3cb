"""The process trees of several devices of a machine, a supervisor each.

A tree that dies is restarted and does not touch the others. Its failure ends the machine's worker
only until its first readiness: then it is a mistake in the settings.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from config.devices import DeviceChoice
from config.settings import WorkerSettings
from worker.metrics.metrics_server import MetricsServer
from worker.metrics.shared_metrics import SUPERVISOR, SharedMetrics
from worker.processes.child import Child
from worker.processes.device_tree import ENGINE_GRACE_S
from worker.processes.devices import Device, list_gpus, select_devices
from worker.processes.lifeline import TREE_NAME
from worker.processes.model_files import ModelFiles
from worker.processes.process_list import ProcessEntry

#: Seconds without a heartbeat after which the supervisor of a tree is killed.
SILENCE_S: Final = 30.0
#: Seconds beyond its own limits that a tree has to end.
END_S: Final = 5.0


class MachineTree:
    """The process trees of the chosen devices."""

    def __init__(self, settings: WorkerSettings, choice: DeviceChoice, run_dir: Path) -> None:
        self._settings = settings
        self._choice = choice
        self._run_dir = run_dir
        self._files = ModelFiles(settings, run_dir)
        self._server = MetricsServer(run_dir, settings.metrics_port)
        self._metrics: list[SharedMetrics] = []
        self._trees: list[Child] = []
        self.entries: Sequence[ProcessEntry] = []

    @property
    def ready(self) -> bool:
        """True while every tree takes jobs."""
        return all(tree.ready for tree in self._trees)

    def prepare(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Find the devices, serve metrics, and download the models once for all trees."""
        devices = select_devices(self._choice, lambda: list_gpus(pause))
        self._metrics = [SharedMetrics(self._directory(device)) for device in devices]
        self._trees = list(map(self._tree, devices, self._metrics))
        names = [device.name for device in devices]
        self._server.serve(dict(zip(names, self._metrics, strict=True)))
        self._files.resolve(descriptor, pause)
        self.entries = [
            ProcessEntry(tree.name, tree.state_file.name, tree.silence_s, device.directory)
            for tree, device in zip(self._trees, devices, strict=True)
        ]

    def _directory(self, device: Device) -> Path | None:
        return self._server.directory and self._server.directory / device.directory

    def _tree(self, device: Device, metrics: SharedMetrics) -> Child:
        settings = tree_settings(self._settings, device, self._run_dir)
        return Child(
            device.name,
            [sys.executable, "-m", "worker"],
            {
                **settings.environment(),
                TREE_NAME: device.name,
                **metrics.environment(SUPERVISOR),
            },
            self._run_dir / f"{device.directory}.state",
            SILENCE_S,
            on_death=partial(metrics.record_death, SUPERVISOR),
            cores=device.cores,
            gives_up=False,
        )

    def supervise(self, descriptor: int) -> None:
        """Keep every tree alive."""
        for tree, metrics in zip(self._trees, self._metrics, strict=True):
            tree.supervise(descriptor)
            metrics.set_ready(tree.ready)

    def drain(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Let every tree finish its running jobs, then end it."""
        for metrics in self._metrics:
            metrics.set_ready(False)
        self._signal_all()
        deadline = time.monotonic() + self._settings.grace_s + ENGINE_GRACE_S + END_S
        while any(tree.alive for tree in self._trees) and time.monotonic() < deadline:
            if pause():
                break
        # The second signal: a tree does not wait for running jobs any longer.
        self._signal_all()
        for tree in self._trees:
            tree.end(ENGINE_GRACE_S + END_S)
        self._server.close()

    def _signal_all(self) -> None:
        for tree in self._trees:
            tree.signal(signal.SIGTERM)


def tree_settings(settings: WorkerSettings, device: Device, run_dir: Path) -> WorkerSettings:
    """Return the settings of a device's tree: those of the machine, and all that is its own."""
    directory = run_dir / device.directory
    own = {
        "devices": "",
        "device": device.setting,
        "run_dir": directory,
        "ready_file": directory / "ready",
        # The machine's supervisor serves the metrics of all trees.
        "metrics_port": 0,
    }
    return settings.model_copy(update=own)
