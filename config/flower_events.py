"""The events that Flower receives, without image bytes and secrets, and of bounded length.

Workers of Blipline send such events. Other programs may announce messages with all their arguments
(Celery's `task_send_sent_event`). Flower keeps the events in memory and in its database, and its
API returns them, so the pages' own hook (`format_task`) is too late.
"""

from __future__ import annotations

import re
from typing import Any, Final

import flower.events
from celery.events.receiver import EventReceiver

from producer.ledger.item_summary import shorten
from producer.net.redact import redact_text

#: Maximum characters of a field of an event.
MAX_CHARS: Final = 1000
#: The fields of task events that contain what a program has sent or returned.
FIELDS: Final = ("args", "kwargs", "result", "exception", "traceback")
#: The name of a producer in its events, with its process id.
_PRODUCER: Final = re.compile(r"^gen\d+@")


class RedactingReceiver(EventReceiver):
    """A receiver of Celery's events."""

    def event_from_message(self, body: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the type of an event, and the event."""
        kind, event = super().event_from_message(body, *args, **kwargs)
        for name in FIELDS:
            if isinstance(value := event.get(name), str):
                event[name] = shorten(redact_text(value), MAX_CHARS)
        # Flower keeps counts for each sender, and producers are many processes.
        event["hostname"] = _PRODUCER.sub("gen@", str(event.get("hostname")))
        return kind, event


def install() -> None:
    """Let Flower receive its events so; it has no setting for that."""
    flower.events.EventReceiver = RedactingReceiver
