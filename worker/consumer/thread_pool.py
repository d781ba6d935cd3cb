"""Celery's thread pool, extended: an error outside of a task does not occupy a slot for ever.

Celery reports the errors of a task. An error before or after it, such as a result that cannot be
stored, ends only the pool's call: nothing acknowledges the message, and the consumer takes no other
message in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from celery import concurrency
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.utils.log import get_logger

from producer.connection.outage import is_transient

log = get_logger(__name__)


class _NoIdleThreads:
    """A count of idle threads that is always 0: each call starts a thread until all are started.

    An executor also counts a thread that goes from one call straight to a waiting one. A pool that
    grew would start too few threads, and a message would wait although a slot is free.
    """

    def acquire(self, timeout: float = 0) -> bool:
        """Return that no thread is idle."""
        return False

    def release(self) -> None:
        """Do nothing at the end of a call."""


class GuardedPool(TaskPool):
    """A thread pool that sets a message aside if Celery cannot process it, and can be resized."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor._idle_semaphore = _NoIdleThreads()

    def grow(self, n: int = 1) -> None:
        """Add threads, which start with the messages that need them."""
        self.limit += n
        # An executor has no public way to grow.
        self.executor._max_workers = max(self.executor._max_workers, self.limit)

    def shrink(self, n: int = 1) -> None:
        """Run fewer messages at a time: the consumer takes no more than the limit."""
        self.limit -= n

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> ApplyResult:
        """Run a task; `callback` is a method of its request."""
        result = super().on_apply(target, args, kwargs, callback, accept_callback, **options)
        request = getattr(callback, "__self__", None)
        if request is not None:
            result.f.add_done_callback(partial(_check, request))
        return result


def _check(request: Any, call: Future[Any]) -> None:
    """Set aside the request's message if the call has raised an error; not if Redis was away."""
    error = None if call.cancelled() else call.exception()
    if not isinstance(error, Exception) or is_transient(error) or request.acknowledged:
        return
    message = request.message
    message.channel.set_aside_message(message, error)
    request.acknowledge()


def install() -> None:
    """Let Celery use this pool in this process for `-P threads`."""
    concurrency.ALIASES["threads"] = f"{__name__}:{GuardedPool.__name__}"
