"""A thread pool with a per-host limit: a slow host cannot occupy all threads."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class HostLimiter(Generic[T]):
    """A thread pool that runs at most `per_host` tasks per host concurrently; thread-safe.

    A task that waits for its host does not occupy a thread; the tasks of other hosts overtake it.
    """

    def __init__(self, threads: int, per_host: int, name: str = "host") -> None:
        self._per_host = per_host
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[_HostTask[T]]] = {}
        self._closed = False

    def close(self) -> None:
        """Cancel the tasks that have not started."""
        with self._lock:
            self._closed = True
            waiting = [task for tasks in self._waiting.values() for task in tasks]
            self._waiting.clear()
        for task in waiting:
            task.future.cancel()
        # The tasks in the pool's queue cancel themselves: `cancel_futures` would cancel the pool's
        # futures, and leave the callers' futures pending.
        self._pool.shutdown(wait=False)

    def submit(self, host: str, work: Callable[[], T]) -> Future[T]:
        """Run a function once its host is below the limit; raise RuntimeError after `close`."""
        task = _HostTask(work)
        with self._lock:
            if self._closed:
                raise RuntimeError("the host limiter is closed")
            if self._running[host] >= self._per_host:
                self._waiting.setdefault(host, deque()).append(task)
                return task.future
            self._running[host] += 1
            self._pool.submit(self._run, host, task)
        return task.future

    def _run(self, host: str, task: _HostTask[T]) -> None:
        try:
            if self._closed:
                task.future.cancel()
            task.run()
        finally:
            self._start_next(host)

    def _start_next(self, host: str) -> None:
        """Start the next task of this host, behind the tasks of other hosts in the pool's queue."""
        with self._lock:
            tasks = self._waiting.get(host)
            while tasks:
                task = tasks.popleft()
                if not task.future.cancelled():
                    self._pool.submit(self._run, host, task)
                    break
            else:
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]
            if not tasks:
                self._waiting.pop(host, None)


class _HostTask(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._work = work

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)
