"""Runs a long call one step at a time, so that the loop goes on between its steps."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")

#: Asked by the work after each of its steps; True tells it to leave off.
Report = Callable[[], bool]


class ThreadCoroutine(Generic[Result]):
    """A call in a thread of its own that only runs while `step` waits for it.

    So it is a coroutine made of a function that knows nothing of coroutines: at no time do two
    threads run.
    """

    def __init__(self, work: Callable[[Report], Result]) -> None:
        self._work = work
        self._go, self._paused = Semaphore(0), Semaphore(0)
        self._stopped = self._ended = False
        self._result: Result
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="stepwise", daemon=True)

    def step(self) -> bool:
        """Run until the next report; True when the work has ended."""
        if not self._thread.is_alive() and not self._ended:
            self._thread.start()
        self._go.release()
        self._paused.acquire()
        return self._ended

    def stop(self) -> None:
        """Tell the work to leave off at its next report."""
        self._stopped = True

    def result(self) -> Result:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._result = self._work(self._report)
        except Exception as error:
            self._error = error
        self._ended = True
        self._paused.release()

    def _report(self) -> bool:
        self._paused.release()
        self._go.acquire()
        return self._stopped
