"""The consumer: `celery -A worker.celery_app worker -P threads -Q interactive,bulk`.

An entry point, so this module reads the environment when it is imported. Started by the
supervisor or by hand, a consumer works with the engine of this machine, and starts one where
there is none.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Any, Final

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning

from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from producer.connection.connect import connect
from producer.errors import InvalidInput
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from producer.net.address_policy import split_list
from worker import lifeline
from worker.consumer.chunks import ChunkRunner
from worker.consumer.maintenance import Maintenance
from worker.consumer.pipeline import ItemHandler, ItemPipeline, NullPipeline
from worker.consumer.result_cache import ResultCache
from worker.consumer.tasks import register
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, private_dir, socket_path
from worker.images.fetcher import Fetcher
from worker.images.loader import ImageLoader
from worker.images.memory_budget import BUDGET_BYTES
from worker.lifeline import READY_FILE

#: Seconds that an engine started by a consumer outlives its last consumer.
LINGER_S: Final = 30.0
#: Seconds that a model may take to load: hundreds of gigabytes from a slow disk.
ENGINE_START_S: Final = 1800.0

log = logging.getLogger(__name__)


class Consumer:
    """What one consumer process holds: its line to the engine, its connections, its runner."""

    def __init__(self, settings: WorkerSettings, *, supervised: bool) -> None:
        self._settings = settings
        self._redis = connect(settings.redis_url, patient=True)
        self._engine = EngineClient(
            socket_path(private_dir(settings.runtime_dir())),
            settings.engine_wait_s,
            revive=None if supervised else start_engine,
            on_other_models=begin_anew,
        )
        self._fetcher = Fetcher(
            self._redis,
            image_root=settings.image_root,
            max_bytes=settings.max_image_bytes,
            timeout_s=settings.fetch_timeout_s,
            guard=settings.fetch_guard(),
            stores=split_list(settings.fetch_stores),
            per_host=settings.fetch_per_host,
            keys=Keys(settings.key_prefix),
            room_bytes=self._room_bytes(),
        )
        self._keys = Keys(settings.key_prefix)
        self._upkeep: Maintenance | None = None

    def start(self) -> ChunkRunner:
        """Wait for the engine, then be ready to run chunks."""
        self._engine.start()
        info = self._engine.info(ENGINE_START_S)
        for model in info.models:
            log.info("engine %d runs %s (%s)", info.pid, model.name, model.revision)
        ledger = Ledger(self._redis, self._keys, lease_s=self._settings.lease_s)
        runner = ChunkRunner(ledger, self._answering(info))
        self._upkeep = Maintenance(ledger, runner, self._settings.sweep_s)
        self._upkeep.start()
        return runner

    def _answering(self, info: EngineInfo) -> ItemHandler:
        settings = self._settings
        if not info.models:
            return NullPipeline()
        pictures = ImageLoader(
            self._fetcher,
            self._engine,
            info,
            settings.max_image_pixels,
            settings.jpeg_draft,
            self._room_bytes(),
        )
        answers = ResultCache(self._redis, settings.answer_cache_s, settings.jpeg_draft, self._keys)
        return ItemPipeline(pictures, self._engine, answers)

    def _room_bytes(self) -> int:
        """Half of what images may take: encoded ones the one, decoded ones the other."""
        return self._settings.image_memory_mb * (1 << 20) // 2 or BUDGET_BYTES

    def close(self) -> None:
        """Let go of everything."""
        if self._upkeep is not None:
            self._upkeep.stop()
        self._engine.close()
        self._fetcher.close()
        self._redis.close()


def begin_anew() -> None:
    """An engine with other models wants other pixels: end, and be started again.

    What this consumer holds is not acknowledged, and goes back to its queue.
    """
    log.error("the engine has other models than before: this consumer ends")
    os._exit(1)


_started: subprocess.Popen[bytes] | None = None


def start_engine() -> None:
    """Start an engine for the consumers of this machine; it leaves again if one is there."""
    global _started
    if _started is None or _started.poll() is not None:
        command = [sys.executable, "-m", "worker.engine", "--linger", str(LINGER_S)]
        _started = subprocess.Popen(command, start_new_session=True)


def _settings() -> WorkerSettings:
    try:
        return WorkerSettings.load()
    except InvalidInput as error:
        sys.exit(f"worker: {error}")


# What it warns of, code in a pickled message, cannot come in: consumers accept JSON alone.
warnings.filterwarnings("ignore", category=SecurityWarning)

settings = _settings()
app = Celery("blipline", events="worker.consumer.events:ThreadSafeEvents")
app.conf.update(celery_settings(settings))
register(app, lambda: _runner)

_consumer: Consumer
_runner: ChunkRunner


@signals.worker_init.connect
def _begin(**_: Any) -> None:
    global _consumer, _runner
    lifeline.when_orphaned(_end_as_orphan)
    _consumer = Consumer(settings, supervised=READY_FILE in os.environ)
    try:
        _runner = _consumer.start()
    except TimeoutError as error:
        sys.exit(f"worker: {error}; see the engine's message above")


def _end_as_orphan() -> None:
    """Finish what was begun, but not for ever: nobody is left to end a consumer that hangs."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(settings.grace_s)
    # What it still holds was never acknowledged, and goes back to its queue.
    os._exit(1)


@signals.worker_ready.connect
def _announce(**_: Any) -> None:
    # Celery would cancel what runs when a connection is lost, and cannot with threads; it says so,
    # with a traceback, at each reconnect. It undoes filters that are set before its logging.
    warnings.filterwarnings(
        "ignore",
        r"(?s).*worker_cancel_long_running_tasks_on_connection_loss",
        CPendingDeprecationWarning,
    )
    lifeline.announce()


@signals.worker_shutting_down.connect
def _withdraw(**_: Any) -> None:
    lifeline.withdraw()


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    _consumer.close()
