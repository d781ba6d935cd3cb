"""A long blocking call that runs one step at a time, as a coroutine in a thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")

#: Function that the work calls after each of its steps. It suspends the work, and returns True if
#: the work must stop.
Suspend = Callable[[], bool]


class ThreadCoroutine(Generic[Result]):
    """A call in its own thread that runs only while `step` waits for it.

    It makes a coroutine of a plain function: the two threads never run at the same time.
    """

    def __init__(self, work: Callable[[Suspend], Result]) -> None:
        self._work = work
        self._resumed, self._suspended = Semaphore(0), Semaphore(0)
        self._stopped = self._ended = False
        self._result: Result
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="thread-coroutine", daemon=True)

    def step(self) -> bool:
        """Run until the next suspension; return True if the work has ended."""
        if not self._thread.is_alive() and not self._ended:
            self._thread.start()
        self._resumed.release()
        self._suspended.acquire()
        return self._ended

    def stop(self) -> None:
        """Make the next suspension return True."""
        self._stopped = True

    def result(self) -> Result:
        """Return the work's result, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        self._resumed.acquire()
        try:
            self._result = self._work(self._suspend)
        except Exception as error:
            self._error = error
        self._ended = True
        self._suspended.release()

    def _suspend(self) -> bool:
        self._suspended.release()
        self._resumed.acquire()
        return self._stopped
