"""The port of a worker's metrics: those of one process tree, or of several by device."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server

from worker.metrics.shared_metrics import MetricsUnavailable, SharedMetrics


class MetricsServer:
    """The server of /metrics, and the directory of the files; without a port it serves nothing."""

    def __init__(self, run_dir: Path, port: int) -> None:
        self._run_dir = run_dir
        self._port = port
        #: The directory of the files; None without a port.
        self.directory = run_dir / f"metrics-{os.getpid()}" if port else None

    def serve(self, trees: Mapping[str, SharedMetrics]) -> None:
        """Create the files of the trees, and serve /metrics in a thread.

        The keys are the names of the devices, the values of the label `device`; an empty one means
        no label. Call it once no other worker runs in this directory. Raises MetricsUnavailable.
        """
        for old in self._run_dir.glob("metrics-*"):
            # Children of a killed worker go on with the files that they have opened.
            shutil.rmtree(old, ignore_errors=True)
        for metrics in trees.values():
            metrics.create_files()
        if not self._port:
            return
        registry = CollectorRegistry()
        registry.register(DeviceCollector(trees))
        try:
            start_http_server(self._port, registry=registry)
        except OSError as error:
            message = f"BLIPLINE_METRICS_PORT={self._port}: {error.strerror}"
            raise MetricsUnavailable(message) from None

    def close(self) -> None:
        """Delete the files."""
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


class DeviceCollector:
    """The metrics of several process trees, each sample with the label `device`."""

    def __init__(self, trees: Mapping[str, SharedMetrics]) -> None:
        self._trees = trees

    def collect(self) -> Iterator[Metric]:
        """Return each metric once, with the samples of all trees."""
        merged: dict[str, Metric] = {}
        for device, metrics in self._trees.items():
            label = {"device": device} if device else {}
            for metric in metrics.collect():
                into = merged.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                into.samples += [
                    sample._replace(labels={**label, **sample.labels}) for sample in metric.samples
                ]
        yield from merged.values()
