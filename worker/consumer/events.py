"""Celery's task events, made safe for a pool of threads.

Pool threads append task events to a list that the event loop sends and then clears. Events that are
added between the two are lost, and Flower shows tasks that never start or never end
(https://github.com/celery/celery/issues/10434, open in 5.6.3).
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
    """Celery's events with the unbuffered dispatcher, for `Celery(events=…)`."""

    dispatcher_cls = UnbufferedDispatcher
