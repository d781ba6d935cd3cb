"""The supervisor: it keeps a tree of processes alive until it is stopped.

The tree is that of one device (`device_tree.py`), or that of a machine whose children are the
supervisors of several devices (`machine_tree.py`). The supervisor restarts a child that dies, with
exponential backoff (`child.py`). A child that cannot be kept alive ends the tree.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from worker.engine.errors import LoadError
from worker.engine.protocol import acquire_lock
from worker.metrics.shared_metrics import MetricsUnavailable
from worker.processes import lifeline, process_list
from worker.processes.child import EXIT_ALREADY_RUNNING, EXIT_PERMANENT, ChildFailed
from worker.processes.process_list import ProcessEntry

log = logging.getLogger(__name__)

POLL_S: Final = 0.1


class Stopped(Exception):
    """A stop of the process tree while it still downloads."""


class ProcessTree(Protocol):
    """The processes that a supervisor keeps alive.

    `descriptor` is the lifeline that children inherit. `pause` waits until the next round and
    returns whether to hurry: to stop the preparation, or to end without waiting for running jobs.
    """

    #: The processes, as `health` lists them, once they are prepared.
    entries: Sequence[ProcessEntry]

    @property
    def ready(self) -> bool:
        """True while every process takes work."""

    def prepare(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Do what precedes the first start.

        Raises Stopped, LoadError, MetricsUnavailable and ChildFailed.
        """

    def supervise(self, descriptor: int) -> None:
        """Start what does not run. Raises ChildFailed."""

    def drain(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Let all processes finish their work within the grace time, then end them."""


class Supervisor:
    """A process tree, run until it is stopped."""

    def __init__(
        self, tree: ProcessTree, run_dir: Path, ready_file: Path, on_ready: Callable[[], None]
    ) -> None:
        self._tree = tree
        self._run_dir = run_dir
        self._ready_file = ready_file
        self._on_ready = on_ready
        self._ready = False
        self._beat_at = 0.0
        self._stop = threading.Event()
        self._stop_now = threading.Event()

    def stop(self) -> None:
        """Finish running jobs, then end; after a second call, end without waiting for them."""
        if self._stop.is_set():
            self._stop_now.set()
        self.drain()

    def drain(self) -> None:
        """Finish running jobs, then end, however often it is called."""
        self._stop.set()

    def run(self) -> int:
        """Run the tree until it is stopped; return the exit code."""
        lock = acquire_lock(self._run_dir / "supervisor.lock")
        if lock is None:
            log.error(
                "a worker is already running in %s. There is one per accelerator; "
                "to run another, set BLIPLINE_RUN_DIR",
                self._run_dir,
            )
            return EXIT_ALREADY_RUNNING
        with lock:
            try:
                return self._run()
            finally:
                process_list.remove(self._run_dir)

    def _run(self) -> int:
        # The write end stays open and unused: children read end of file when this process dies.
        descriptor, _write_end = os.pipe()
        process_list.write(self._run_dir, [])
        try:
            self._tree.prepare(descriptor, lambda: self._pause(self._stop))
            process_list.write(self._run_dir, self._tree.entries)
            self._supervise_until_stopped(descriptor)
        except Stopped:
            log.info("stopped during a download")
        except (LoadError, MetricsUnavailable) as error:
            log.error("%s", error)
            return EXIT_PERMANENT
        except ChildFailed as error:
            log.error("%s", error)
            return error.exit_code
        finally:
            self._publish_readiness(False)
            lifeline.report(lifeline.STOPPING)
            self._tree.drain(descriptor, lambda: self._pause(self._stop_now))
        return 0

    def _supervise_until_stopped(self, descriptor: int) -> None:
        announced = False
        while not self._pause(self._stop):
            self._tree.supervise(descriptor)
            self._publish_readiness(self._tree.ready)
            if self._ready and not announced:
                announced = True
                self._on_ready()

    def _pause(self, event: threading.Event) -> bool:
        """Send the heartbeat, wait until the next round, and return whether the event is set."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + lifeline.HEARTBEAT_S
            process_list.touch(self._run_dir)
            lifeline.report(lifeline.READY if self._ready else "starting")
            if self._ready:
                # Cleaners of temporary files remove old ones.
                self._ready_file.touch()
        return event.wait(POLL_S)

    def _publish_readiness(self, ready: bool) -> None:
        if not ready:
            # Also that of a killed predecessor.
            self._ready_file.unlink(missing_ok=True)
        if ready == self._ready:
            return
        # A machine's supervisor must not miss a process that is back before the next heartbeat.
        self._beat_at = 0.0
        self._ready = ready
        if ready:
            self._ready_file.touch()
