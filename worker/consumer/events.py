"""Celery's task events, made safe for a pool of threads.

Celery's dispatcher collects task events in a list that pool threads append to while the event loop
sends and clears it. Events between the two are lost, and Flower shows tasks that never start or
never end (https://github.com/celery/celery/issues/10434, open in 5.6.3).
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher


class UnbufferedDispatcher(EventDispatcher):
    """An event dispatcher that sends each event at once, under the dispatcher's own lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "buffer_group": None, "on_send_buffered": None})


class ThreadSafeEvents(Events):
    """The value of `Celery(events=…)`."""

    dispatcher_cls = UnbufferedDispatcher
