"""Threads that a slow host cannot take all: of each host only so much runs at once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class HostLimiter(Generic[T]):
    """Runs work, of one host `each` pieces at once at most; thread-safe.

    What waits for its host holds no thread; other hosts' work overtakes it.
    """

    def __init__(self, threads: int, each: int, name: str = "turn") -> None:
        self._each = each
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Piece[T]]] = {}
        self._closed = False

    def close(self) -> None:
        """Cancel what has not begun."""
        with self._lock:
            self._closed = True
            left = [piece for pieces in self._waiting.values() for piece in pieces]
            self._waiting.clear()
        for piece in left:
            piece.future.cancel()
        # What is in its queue cancels itself: its own `cancel_futures` would not tell who waits.
        self._pool.shutdown(wait=False)

    def submit(self, host: str, work: Callable[[], T]) -> Future[T]:
        """Begin it now, or when its host has its turn; raises RuntimeError once closed."""
        piece = _Piece(work)
        with self._lock:
            if self._closed:
                raise RuntimeError("closed")
            if self._running[host] >= self._each:
                self._waiting.setdefault(host, deque()).append(piece)
                return piece.future
            self._running[host] += 1
            self._pool.submit(self._run, host, piece)
        return piece.future

    def _run(self, host: str, piece: _Piece[T]) -> None:
        try:
            if self._closed:
                piece.future.cancel()
            piece.run()
        finally:
            self._next(host)

    def _next(self, host: str) -> None:
        """Hand the turn on, behind all that other hosts have in the queue already."""
        with self._lock:
            pieces = self._waiting.get(host)
            while pieces:
                piece = pieces.popleft()
                if not piece.future.cancelled():
                    self._pool.submit(self._run, host, piece)
                    break
            else:
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]
            if not pieces:
                self._waiting.pop(host, None)


class _Piece(Generic[T]):
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
