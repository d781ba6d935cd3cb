"""Metrics of a worker's processes: each writes its own to files, and the supervisor reads all.

The files are those of prometheus_client's multiprocess mode, named after the process instead of its
id: a restarted process continues the counters of its predecessor, and the files do not multiply.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

#: prometheus_client's own variable.
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
#: Environment variable with the name of a child, such as `engine`.
PROCESS: Final = "BLIPLINE_PROCESS"
#: Name of the supervisor of a device, as a child of the machine's.
SUPERVISOR: Final = "supervisor"
#: Bytes of a file, allocated beforehand: a write to a hole of a mapped file kills the process if
#: the disk is full. Twice the metrics of a consumer with every task and error code.
FILE_BYTES: Final = 1 << 18
#: Mode of gauges: those of a process that has died are gone, the others are summed.
LIVE: Final = "livesum"


class MetricsUnavailable(Exception):
    """Metrics that cannot be served; the message names the setting and the reason."""


def shared_directory() -> Path | None:
    """Return the directory of the supervisor above, if there is one that serves metrics."""
    directory = os.environ.get(DIRECTORY)
    return Path(directory) if directory and PROCESS in os.environ else None


def join_shared_metrics() -> None:
    """Write the metrics that this process creates from now on to the files of the supervisor.

    Without a supervisor that serves metrics, do nothing.
    """
    if shared_directory():
        name = os.environ[PROCESS]
        values.ValueClass = values.MultiProcessValue(lambda: name)


class SharedMetrics:
    """The supervisor's side: its own metrics, and the files of its children.

    It does nothing without a directory. A supervisor below another one writes its own metrics to
    the directory, too, and leaves its readiness to the other one, which also sees its death.
    """

    def __init__(self, directory: Path | None, *, with_readiness: bool = True) -> None:
        self._directory = directory
        self._registry = CollectorRegistry()
        self._restarts = Counter(
            "blipline_worker_process_restarts",
            "Deaths of the worker's processes, each of which starts the process again",
            ["process"],
            registry=self._registry,
        )
        self._ready: Gauge | None = None
        if with_readiness:
            self._ready = Gauge(
                "blipline_worker_ready",
                "1 while the model is warm and both consumers take jobs",
                registry=self._registry,
            )
        self._processes: list[str] = []

    def environment(self, process: str) -> Mapping[str, str]:
        """Add a child; return the variables that it needs."""
        if not self._directory:
            return {}
        self._processes.append(process)
        self._restarts.labels(process)
        return {DIRECTORY: str(self._directory), PROCESS: process}

    def create_files(self) -> None:
        """Create the files of the children; counters of predecessors continue.

        Call it once no other worker runs in this directory. Raises MetricsUnavailable.
        """
        if not self._directory:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for process in self._processes:
                for kind in ("counter", "histogram", f"gauge_{LIVE}"):
                    path = self._directory / f"{kind}_{process}.db"
                    if kind.startswith("gauge") or not path.exists():
                        _allocate(path)
        except OSError as error:
            raise MetricsUnavailable(
                f"BLIPLINE_METRICS_PORT: {error.strerror} in {self._directory}"
            ) from None

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of all processes."""
        yield from self._registry.collect()
        yield from MultiProcessCollector(None, str(self._directory)).collect()

    def set_ready(self, ready: bool) -> None:
        """Publish whether the worker takes jobs."""
        if self._ready:
            self._ready.set(ready)

    def record_death(self, process: str) -> None:
        """Count the death of a child, and remove its gauges and those of its own children."""
        if self._directory:
            self._restarts.labels(process).inc()
            pattern = "*" if process == SUPERVISOR else process
            for path in self._directory.glob(f"gauge_{LIVE}_{pattern}.db"):
                _allocate(path)


def _allocate(path: Path) -> None:
    path.unlink(missing_ok=True)
    # A scrape must not read an empty file.
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    new.replace(path)
