"""Celery's consumer, extended: it survives every message and every state of Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from celery.utils.log import get_logger
from celery.worker.state import maybe_shutdown

from worker.consumer import envelope
from worker.consumer.envelope import MessageMalformed, describe
from worker.consumer.queue_guard import QueueGuard
from worker.consumer.unknown_tasks import ForwardingConsumer
from worker.processes import lifeline

log = get_logger(__name__)

#: Seconds before the first attempt to connect again, doubled up to the maximum.
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 2.0
#: Seconds of a connection after which the pause begins at its first value again.
STEADY_S: Final = 10.0


class ResilientConsumer(ForwardingConsumer):
    """A consumer for Celery's setting `worker_consumer`.

    Celery deletes some messages that it cannot read, and others end its event loop. Here all of
    them raise an error, and the channel sets the message aside (`transport.py`).
    """

    _pause_s = FIRST_PAUSE_S
    _connected_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_guard = QueueGuard(self) if lifeline.is_supervised() else None

    def register_with_event_loop(self, hub: Any) -> None:
        """Register with the event loop of a new connection, and send heartbeats from it."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(lifeline.HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        """Send the heartbeat to the supervisor, if there is one."""
        if self._queue_guard is not None:
            self._queue_guard.beat()

    def _continue_waiting(self) -> None:
        """Send the heartbeat while Redis is away; raise the exception of a shutdown."""
        self._beat()
        maybe_shutdown()

    def connect(self) -> Any:
        """Return a connection that the event loop reads; close it if that fails."""
        connection = self.connection_for_read(heartbeat=self.amqheartbeat)
        try:
            if self.hub:
                connection.transport.register_with_event_loop(connection.connection, self.hub)
        except BaseException:
            # Nothing else refers to it.
            connection.release()
            raise
        self._connected_at = time.monotonic()
        return connection

    def ensure_connected(self, connection: Any) -> Any:
        """Connect; try again, at least every MAX_PAUSE_S, until it succeeds."""

        def report(error: Exception, interval_s: float) -> None:
            log.error("%s: %s; trying again in %g s", connection.as_uri(), error, interval_s)

        connection.ensure_connection(
            report,
            interval_start=MAX_PAUSE_S / 2,
            interval_step=MAX_PAUSE_S / 2,
            interval_max=MAX_PAUSE_S,
            callback=self._continue_waiting,
        )
        self.first_connection_attempt = False
        return connection

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """Close the connection and wait before the next one."""
        super().on_connection_error_after_connected(error)
        self._wait()

    def on_connection_error_before_connected(self, error: Exception) -> None:
        """Wait before the next connection."""
        super().on_connection_error_before_connected(error)
        self._wait()

    def _wait(self) -> None:
        """Wait, longer each time: a Redis that refuses commands is not to be flooded."""
        if time.monotonic() - self._connected_at > STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        self._continue_waiting()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the function that receives a message; it raises an error for a malformed one."""
        run = super().create_task_handler(*args, **kwargs)

        def receive(message: Any) -> None:
            # An unknown task may belong to another program.
            if envelope.task_name(message) in self.strategies:
                envelope.check(message)
            run(message)

        return receive

    def on_decode_error(self, message: Any, error: Exception) -> None:
        """Raise the error of a body that kombu cannot decode."""
        raise MessageMalformed(describe(error)) from error

    def on_invalid_task(self, body: Any, message: Any, error: Exception) -> None:
        """Raise the error of a message that Celery refuses."""
        raise MessageMalformed(describe(error)) from error

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Raise an error for a message without a task."""
        raise MessageMalformed("the message names no task")
