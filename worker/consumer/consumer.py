"""One consumer process: its connections, and the parts that run chunks."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from config.settings import WorkerSettings
from producer.connection.connect import connect, redis_errors
from producer.connection.eviction import PolicyMonitor, check_eviction, read_policy
from producer.errors import ConnectionFailed
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from worker.consumer.chunks import ChunkRunner
from worker.consumer.commits import CommitMonitor
from worker.consumer.item_handler import ItemHandler, NullPipeline
from worker.consumer.maintenance import Maintenance
from worker.consumer.metrics import ConsumerMetrics
from worker.consumer.text_publisher import TextPublisher
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, private_dir, socket_path

if TYPE_CHECKING:
    from worker.consumer.model_pipeline import ModelPipeline

#: Seconds that an engine started by a consumer runs on after its last consumer has disconnected.
LINGER_S: Final = 30.0
#: Maximum seconds to load a model: a slow disk may have to read hundreds of gigabytes.
ENGINE_START_S: Final = 1800.0

log = logging.getLogger(__name__)


class Consumer:
    """The engine client, connections and chunk runner of a process."""

    def __init__(self, settings: WorkerSettings, *, supervised: bool) -> None:
        self._settings = settings
        # The consumers of one supervisor are one worker.
        process = os.getppid() if supervised else os.getpid()
        self._worker = f"{socket.gethostname()}:{process}"
        self._redis = connect(
            settings.redis_url, patient=True, max_connections=settings.max_connections
        )
        self._engine = EngineClient(
            socket_path(private_dir(settings.runtime_dir())),
            settings.engine_wait_s,
            revive=None if supervised else start_engine,
            on_models_changed=restart,
        )
        self._keys = Keys(settings.key_prefix)
        self._texts = TextPublisher(self._redis, self._keys)
        self._metrics = ConsumerMetrics()
        self._maintenance: Maintenance | None = None
        self._pipeline: ModelPipeline | None = None

    def start(self) -> ChunkRunner:
        """Wait for the engine, start maintenance, and return the chunk runner."""
        monitor = self._check_eviction()
        self._engine.start()
        info = self._engine.info(ENGINE_START_S)
        for model in info.models:
            log.info("engine %d runs %s (%s)", info.pid, model.name, model.revision)
        leases = Leases(self._redis, self._keys, lease_s=self._settings.lease_s)
        runner = ChunkRunner(leases, self._handler(info), self._metrics)

        commits = CommitMonitor(leases, info.models)

        def on_report() -> None:
            self._metrics.publish()
            commits.report()

        def on_sweep(swept_jobs: int) -> None:
            self._metrics.swept_jobs.inc(swept_jobs)
            monitor.observe(read_policy(self._redis))

        self._maintenance = Maintenance(
            leases,
            runner,
            self._settings.sweep_s,
            self._worker,
            on_sweep=on_sweep,
            on_report=on_report,
        )
        self._maintenance.start()
        return runner

    def _check_eviction(self) -> PolicyMonitor:
        """Check the eviction policy of Redis, once it is reachable; raises InvalidInput."""
        try:
            with redis_errors(self._settings.redis_url):
                check_eviction(self._redis, self._settings.redis_url)
                return PolicyMonitor(read_policy(self._redis) or "noeviction")
        except ConnectionFailed as error:
            # Celery reports and retries its own connections.
            log.warning("the eviction policy is unknown: %s", error)
            return PolicyMonitor()

    def _handler(self, info: EngineInfo) -> ItemHandler:
        if not info.models:
            return NullPipeline()
        # Late import: a consumer without a model needs half of the processor time and memory.
        from worker.consumer.model_pipeline import ModelPipeline

        self._pipeline = ModelPipeline(
            self._settings, self._redis, self._engine, info, self._texts, self._metrics
        )
        return self._pipeline.items

    def close(self) -> None:
        """Stop maintenance and close all connections."""
        if self._maintenance is not None:
            self._maintenance.stop()
        self._metrics.publish()
        self._engine.close()
        if self._pipeline is not None:
            self._pipeline.close()
        self._texts.close()
        self._redis.close()


def restart() -> None:
    """Exit, so that this process is restarted: an engine with other models needs other pixels.

    The messages of this consumer are not acknowledged and return to their queue.
    """
    log.error("the engine's models have changed: this consumer exits, to be restarted")
    os._exit(1)


_engine_process: subprocess.Popen[bytes] | None = None


def start_engine() -> None:
    """Start an engine for the consumers of this machine; it exits if one is already running."""
    global _engine_process
    if _engine_process is None or _engine_process.poll() is not None:
        command = [sys.executable, "-m", "worker.engine", "--linger", str(LINGER_S)]
        _engine_process = subprocess.Popen(command, start_new_session=True)
