"""The process tree of one device: an engine and its consumers.

The engine starts with the directories of its models, also after a crash; the consumers start once
it is ready.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from config.settings import WorkerSettings
from producer.contract import Queue
from worker.metrics.metrics_server import MetricsServer
from worker.metrics.shared_metrics import SharedMetrics, join_shared_metrics, shared_directory
from worker.processes import lifeline
from worker.processes.child import Child, ChildFailed
from worker.processes.model_files import ModelFiles
from worker.processes.process_list import ProcessEntry

log = logging.getLogger(__name__)

#: Seconds beyond a step's time limit after which an engine without a heartbeat is killed.
HEARTBEAT_GRACE_S: Final = 10.0
#: Seconds without a heartbeat after which a consumer is killed. Its event loop may stand still
#: while it writes to a frozen Redis; a worker rides out outages of 600 s.
CONSUMER_SILENCE_S: Final = 660.0
#: Maximum seconds for the engine to end: it has no more work.
ENGINE_GRACE_S: Final = 10.0


class DeviceTree:
    """The engine and the consumers of one device."""

    def __init__(self, settings: WorkerSettings, run_dir: Path) -> None:
        self._grace_s = settings.grace_s
        self._files = ModelFiles(settings, run_dir)
        self._server = MetricsServer(run_dir, settings.metrics_port)
        # Of several devices, the machine's supervisor serves the metrics.
        join_shared_metrics()
        above = shared_directory()
        self._metrics = metrics = SharedMetrics(
            above or self._server.directory, with_readiness=not above
        )
        environment = settings.environment()
        self._engine = Child(
            "engine",
            [sys.executable, "-m", "worker.engine"],
            # The engine has directories; the libraries that read them need no hub.
            {**environment, "HF_HUB_OFFLINE": "1", **metrics.environment("engine")},
            run_dir / "engine.state",
            # The engine's own watchdog acts first and logs the stacks of all threads.
            silence_s=settings.step_timeout_s + HEARTBEAT_GRACE_S,
            on_death=partial(metrics.record_death, "engine"),
        )
        concurrency = {
            Queue.INTERACTIVE: settings.interactive_slots,
            Queue.BULK: settings.bulk_slots,
        }
        self._consumers = [
            _consumer(queue, count, environment, run_dir / f"{queue}.state", metrics)
            for queue, count in concurrency.items()
        ]
        self._engine_was_ready = False
        self.entries: Sequence[ProcessEntry] = [
            ProcessEntry(child.name, child.state_file.name, child.silence_s)
            for child in [self._engine, *self._consumers]
        ]

    @property
    def ready(self) -> bool:
        """True while the model is warm and every consumer takes jobs."""
        return self._engine.ready and all(consumer.ready for consumer in self._consumers)

    def prepare(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Serve metrics, and hand the directories of the models to the engine."""
        self._server.serve({"": self._metrics})
        for directory in self._files.resolve(descriptor, pause):
            self._engine.add_arguments("--directory", str(directory))

    def supervise(self, descriptor: int) -> None:
        """Keep the engine alive, and the consumers from its first readiness on."""
        self._engine.supervise(descriptor)
        self._engine_was_ready |= self._engine.ready
        if self._engine_was_ready:
            for consumer in self._consumers:
                consumer.supervise(descriptor)
        self._metrics.set_ready(self.ready)

    def drain(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Let the consumers finish their chunks with the engine, then end all processes."""
        self._metrics.set_ready(False)
        for consumer in self._consumers:
            consumer.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while any(consumer.alive for consumer in self._consumers) and time.monotonic() < deadline:
            try:
                self._engine.supervise(descriptor)
            except ChildFailed as error:
                log.error("%s", error)
                break
            if pause():
                break
        for consumer in self._consumers:
            consumer.kill("it was still running at the end of the shutdown")
        self._engine.end(ENGINE_GRACE_S)
        self._server.close()


def _consumer(
    queue: Queue,
    concurrency: int,
    environment: Mapping[str, str],
    state_file: Path,
    metrics: SharedMetrics,
) -> Child:
    # The process id makes node names unique among the process trees of a host.
    name = lifeline.log_name(queue.value).replace(" ", "-").replace(":", "-")
    command = [sys.executable, "-m", "worker.consumer", "-Q", queue.value]
    command += ["-c", str(concurrency), "-n", f"{name}-{os.getpid()}@%h"]
    return Child(
        queue.value,
        command,
        {**environment, **metrics.environment(queue.value)},
        state_file,
        CONSUMER_SILENCE_S,
        on_death=partial(metrics.record_death, queue.value),
    )
