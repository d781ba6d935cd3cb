"""The heartbeat of a supervised consumer, and the return of a queue that was cancelled.

`cancel_consumer`, a command of Celery's remote control, makes a consumer take no more work while
all its processes run. The consumer then reports that it is not ready, and soon consumes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from celery.utils.log import get_logger

from worker.processes import lifeline

log = get_logger(__name__)

#: Seconds without its queue after which a consumer consumes it again.
RETURN_S: Final = 10.0


class QueueGuard:
    """The guard of a consumer's queues; the consumer's event loop calls it regularly."""

    def __init__(self, consumer: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._queues = list(consumer.app.amqp.queues.consume_from)
        self._clock = clock
        self._cancelled_at: float | None = None

    def beat(self) -> None:
        """Send the heartbeat; consume cancelled queues again after RETURN_S.

        A consumer that waits for Redis keeps its queues, and its heartbeat.
        """
        cancelled = self._cancelled_queues()
        if not cancelled:
            self._resume()
            return
        if self._cancelled_at is None:
            self._cancelled_at = self._clock()
            log.error(
                "the queue %s was cancelled by remote control; this worker consumes it again in "
                "%g s: send SIGTERM to a worker that is to take no more jobs",
                ", ".join(cancelled),
                RETURN_S,
            )
            lifeline.report(f"not consuming {', '.join(cancelled)}")
        elif self._clock() - self._cancelled_at >= RETURN_S:
            self._consume(cancelled)

    def _cancelled_queues(self) -> list[str]:
        # The selection, from which Celery also restores the queues of a new connection.
        selected = self._consumer.app.amqp.queues.consume_from
        return [queue for queue in self._queues if queue not in selected]

    def _consume(self, queues: list[str]) -> None:
        names = self._consumer.app.amqp.queues
        names.select([*names.consume_from, *queues])
        for queue in queues:
            self._consumer.add_task_queue(queue)

    def _resume(self) -> None:
        if self._cancelled_at is None:
            lifeline.heartbeat()
            return
        self._cancelled_at = None
        log.warning("this worker consumes %s again", ", ".join(self._queues))
        lifeline.report()
