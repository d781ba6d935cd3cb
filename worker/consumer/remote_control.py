"""Celery's remote control commands, as far as they differ for a consumer.

Monitors such as Flower send them. Celery reports success for some that have no effect on a pool of
threads, and for any size of the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.exceptions import WorkerShutdown
from celery.platforms import EX_OK
from celery.utils.log import get_logger
from celery.worker.control import Panel, cancel_consumer, nok, ok

from producer.contract import Queue
from worker.consumer.queue_guard import RETURN_S
from worker.processes import lifeline

log = get_logger(__name__)

#: Maximum threads of a pool, as in the settings of slots.
MAX_THREADS: Final = 1024
#: Commands that a consumer refuses, with the remedy.
REFUSED: Final = {
    "time_limit": "a consumer has no time limits: threads cannot be interrupted. "
    "Submit jobs with a deadline",
    "pool_restart": "a consumer's pool cannot restart: shut the worker down, and start it again",
    "autoscale": "a consumer does not scale itself: grow or shrink its pool",
}


def install() -> None:
    """Let the consumer of this process answer these commands."""
    for name, reason in REFUSED.items():
        _register(name, partial(_refuse, reason))
    _register("pool_grow", _grow)
    _register("pool_shrink", _shrink)
    _register("shutdown", _shutdown)
    _register("cancel_consumer", _cancel_consumer)


def _register(name: str, command: Callable[..., Any]) -> None:
    # Celery's description of the command remains.
    Panel.data[name] = command


def _refuse(reason: str, state: Any, **_: Any) -> Any:
    return nok(reason)


def _grow(state: Any, n: Any = 1, **_: Any) -> Any:
    return _resize(state.consumer, n, 1)


def _shrink(state: Any, n: Any = 1, **_: Any) -> Any:
    return _resize(state.consumer, n, -1)


def _resize(consumer: Any, n: Any, sign: int) -> Any:
    """Add or remove `n` threads; the consumer reserves as many messages as it has threads."""
    pool = consumer.pool
    if not isinstance(n, int) or n < 1 or not 1 <= pool.limit + sign * n <= MAX_THREADS:
        return nok(
            f"n={n!r:.20}: the pool has {pool.limit} threads, and may have 1 to {MAX_THREADS}"
        )
    (pool.grow if sign > 0 else pool.shrink)(n)
    consumer._update_prefetch_count(sign * n)
    log.warning("a monitor resized the pool to %d threads", pool.limit)
    return ok(f"the pool has {pool.limit} threads")


def _cancel_consumer(state: Any, queue: Any, **_: Any) -> Any:
    """Leave a queue; a worker's own queue returns (`queue_guard.py`)."""
    answer = cancel_consumer(state, queue)
    if not lifeline.is_supervised() or queue not in list(Queue):
        return answer
    return ok(
        f"no longer consuming from {queue} for {RETURN_S:g} s: "
        "shut down a worker that is to take no more jobs"
    )


def _shutdown(state: Any, **_: Any) -> Any:
    """End the worker: all processes of its supervisor, which would restart this one."""
    log.warning("a monitor shuts this worker down")
    if lifeline.request_shutdown():
        return ok("the worker finishes its chunks, then ends")
    raise WorkerShutdown(EX_OK)
