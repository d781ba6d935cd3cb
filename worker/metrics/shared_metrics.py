"""Metrics of a worker's processes: each writes its own to files, and the supervisor serves all.

The files are those of prometheus_client's multiprocess mode, named after the process instead of its
id: a restarted process continues the counters of its predecessor, and the files do not multiply.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector

#: prometheus_client's own variable.
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
#: Environment variable with the name of a child, such as `engine`.
PROCESS: Final = "BLIPLINE_PROCESS"
#: Bytes of a file, allocated beforehand: a write to a hole of a mapped file kills the process if
#: the disk is full. Twice the metrics of a consumer with every task and error code.
FILE_BYTES: Final = 1 << 18
#: Mode of gauges: those of a process that has died are gone, the others are summed.
LIVE: Final = "livesum"


class MetricsUnavailable(Exception):
    """Metrics that cannot be served; the message names the setting and the reason."""


def join_shared_metrics() -> None:
    """Write the metrics that this process creates from now on to the files of the supervisor.

    Without a supervisor that serves metrics, do nothing.
    """
    name = os.environ.get(PROCESS)
    if name and DIRECTORY in os.environ:
        values.ValueClass = values.MultiProcessValue(lambda: name)


class SharedMetrics:
    """The supervisor's side: its own metrics, the files of its children, and the server of both.

    It does nothing if `port` is 0.
    """

    def __init__(self, run_dir: Path, port: int) -> None:
        self._run_dir = run_dir
        self._directory = run_dir / f"metrics-{os.getpid()}"
        self._port = port
        self._registry = CollectorRegistry()
        self._restarts = Counter(
            "blipline_worker_process_restarts",
            "Deaths of the worker's processes, each of which starts the process again",
            ["process"],
            registry=self._registry,
        )
        self._ready = Gauge(
            "blipline_worker_ready",
            "1 while the model is warm and both consumers take jobs",
            registry=self._registry,
        )
        self._processes: list[str] = []

    def environment(self, process: str) -> Mapping[str, str]:
        """Add a child; return the variables that it needs."""
        if not self._port:
            return {}
        self._processes.append(process)
        self._restarts.labels(process)
        return {DIRECTORY: str(self._directory), PROCESS: process}

    def serve(self) -> None:
        """Create the files and serve /metrics in a thread. Raises MetricsUnavailable.

        Call it once no other worker runs in this directory.
        """
        try:
            if self._port:
                self._create_files()
                MultiProcessCollector(self._registry, str(self._directory))
                start_http_server(self._port, registry=self._registry)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            message = f"BLIPLINE_METRICS_PORT={self._port}: {error.strerror}{where}"
            raise MetricsUnavailable(message) from None

    def _create_files(self) -> None:
        for old in self._run_dir.glob("metrics-*"):
            # Children of a killed worker go on with the files that they have opened.
            shutil.rmtree(old, ignore_errors=True)
        self._directory.mkdir(mode=0o700)
        for process in self._processes:
            for kind in ("counter", "histogram", f"gauge_{LIVE}"):
                self._allocate(kind, process)

    def set_ready(self, ready: bool) -> None:
        """Publish whether the worker takes jobs."""
        self._ready.set(ready)

    def record_death(self, process: str) -> None:
        """Count the death of a child and remove its gauges."""
        if self._port:
            self._restarts.labels(process).inc()
            self._allocate(f"gauge_{LIVE}", process)

    def _allocate(self, kind: str, process: str) -> None:
        path = self._directory / f"{kind}_{process}.db"
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)

    def close(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._directory, ignore_errors=True)
