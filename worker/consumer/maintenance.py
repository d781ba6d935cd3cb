"""What a consumer does for the ledger beside its work: signs of life, cancellations, sweeping."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from producer.ledger.ledger import Ledger
from worker.consumer.chunks import ChunkRunner

log = logging.getLogger(__name__)

#: Seconds between two signs of life, and so between two looks for cancellations: far below a lease.
BEAT_S: Final = 0.5


class Maintenance:
    """A thread of its own; whatever goes wrong, it goes on."""

    def __init__(self, ledger: Ledger, runner: ChunkRunner, sweep_s: float) -> None:
        self._ledger = ledger
        self._runner = runner
        #: Seconds between two sweeps; 0 leaves them to others.
        self._sweep_s = sweep_s
        self._sweep_at = 0.0
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin; returns at once."""
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._beat()
                self._sweep()
            except Exception:
                log.warning("cannot keep the ledger", exc_info=True)

    def _beat(self) -> None:
        running = self._runner.running
        for task_id in self._ledger.heartbeat(running) if running else ():
            self._runner.cancel(task_id)

    def _sweep(self) -> None:
        if not self._sweep_s or time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + self._sweep_s
        swept = self._ledger.sweep(self._sweep_s)
        if swept:
            log.warning("%d jobs were lost on their way, and are queued again", swept)
