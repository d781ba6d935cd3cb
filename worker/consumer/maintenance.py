"""The maintenance thread of a consumer: heartbeats, cancellations and sweeps of expired leases."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from producer.ledger.leases import Leases
from worker.consumer.chunks import ChunkRunner

log = logging.getLogger(__name__)

#: Seconds between heartbeats, which also return cancellations: much shorter than a lease.
HEARTBEAT_S: Final = 0.5


class Maintenance:
    """The maintenance thread. Errors are logged and do not end it."""

    def __init__(
        self,
        leases: Leases,
        runner: ChunkRunner,
        sweep_s: float,
        on_sweep: Callable[[], None] = lambda: None,
    ) -> None:
        self._leases = leases
        self._runner = runner
        #: Seconds between sweeps; 0: no sweeps by this consumer.
        self._sweep_s = sweep_s
        self._sweep_at = 0.0
        #: Called after each sweep.
        self._on_sweep = on_sweep
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="maintenance", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread; does not wait for its end."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._send_heartbeat()
                self._sweep()
            except Exception:
                log.warning("maintenance of the ledger failed", exc_info=True)

    def _send_heartbeat(self) -> None:
        running = self._runner.running
        for task_id in self._leases.heartbeat(running) if running else ():
            self._runner.cancel(task_id)

    def _sweep(self) -> None:
        if not self._sweep_s or time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + self._sweep_s
        swept = self._leases.sweep(self._sweep_s)
        if swept:
            log.warning("%d lost jobs were queued again", swept)
        self._on_sweep()
