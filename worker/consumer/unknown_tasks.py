"""Celery's consumer, extended to return the tasks of other programs to their own queue.

A consumer publishes the callbacks of a message (`link`, `chain`, `chord`) to its default queue. A
program may also send tasks of its own to a queue of Blipline by mistake. Celery discards a task of
an unknown name, and stores a failure.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from celery.worker.consumer import Consumer

log = logging.getLogger(__name__)

#: Names that belong to workers of Blipline, possibly of a later version.
_OWN_PREFIX: Final = "blipline."
#: Properties of a message that its next consumer needs.
_PROPERTIES: Final = ("correlation_id", "reply_to", "priority", "expiration")


class ForwardingConsumer(Consumer):
    """A consumer that forwards tasks of unknown names to the queue `task_default_queue`."""

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Forward the message unchanged; let Celery fail a task of Blipline's own namespace."""
        name, queue = str(exc.args[0]), self.app.conf.task_default_queue
        # Not `consume_from`: it lacks a known queue that an operator adds while the worker runs.
        if name.startswith(_OWN_PREFIX) or self.task_consumer.consuming_from(queue):
            super().on_unknown_task(body, message, exc)
            return
        properties = {key: message.properties.get(key) for key in _PROPERTIES}
        self.app.amqp.Producer(message.channel, auto_declare=False).publish(
            message.body,
            exchange="",
            routing_key=queue,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=message.headers,
            **properties,
        )
        message.ack_log_error(log, self.connection_errors)
        log.warning("%s is not a task of this worker: its message moved to %s", name, queue)
