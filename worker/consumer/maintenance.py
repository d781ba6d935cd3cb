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
#: Seconds between signs of life of the worker: a fraction of `contract.WORKER_ALIVE_S`.
REPORT_S: Final = 5.0


class Maintenance:
    """The maintenance thread. Errors are logged and do not end it."""

    def __init__(
        self,
        leases: Leases,
        runner: ChunkRunner,
        sweep_s: float,
        worker: str = "worker",
        on_sweep: Callable[[int], object] = lambda _: None,
        on_report: Callable[[], None] = lambda: None,
    ) -> None:
        self._leases = leases
        self._runner = runner
        #: Seconds between sweeps; 0: no sweeps by this consumer.
        self._sweep_s = sweep_s
        self._sweep_at = 0.0
        #: Called after each sweep with the number of jobs that it queued again.
        self._on_sweep = on_sweep
        #: Called after each sign of life.
        self._on_report = on_report
        #: Name of the worker, which all its consumers share.
        self._worker = worker
        self._report_at = 0.0
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
                self._leases.expire_due()
                self._sweep()
            except Exception:
                log.warning("maintenance of the ledger failed", exc_info=True)

    def _send_heartbeat(self) -> None:
        running = self._runner.running
        for run in self._leases.heartbeat(running) if running else ():
            self._runner.cancel(run)
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + REPORT_S
            self._leases.report_worker(self._worker)
            self._on_report()

    def _sweep(self) -> None:
        if not self._sweep_s or time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + self._sweep_s
        swept = self._leases.sweep(self._sweep_s)
        if swept:
            log.warning("%d lost jobs were queued again", swept)
        self._on_sweep(swept)
