"""Publishing chunks as Celery messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis
from celery import Celery
from kombu.exceptions import BatchPublishError

from .connection import BROKER_TRANSPORT_OPTIONS
from .contract import Queue, Task
from .ledger import Ledger

#: Messages sent to Redis in one round trip. Larger groups hardly publish faster.
PIPELINE_MESSAGES: Final = 128
#: How often a group is published again when the connection broke under it.
PUBLISH_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """One message: what is asked of 1 to N items."""

    id: str
    task: Task
    items: list[dict[str, Any]]
    options: dict[str, Any]

    @property
    def summary(self) -> str:
        """What a person sees in Flower."""
        first = self.items[0]
        texts = first.get("texts")
        asked = [first.get(name) for name in ("question", "prompt", "text")]
        asked += texts if isinstance(texts, list) else []
        # A batch may hold anything; what is wrong with it the worker says.
        about = next((one for one in asked if isinstance(one, str) and one), "")
        # A hash means nothing to a person, and a long URL fills the column.
        image = str(first.get("image", ""))
        image = image if len(image) <= 72 else f"{image[:69]}…"
        more = f" (+{len(self.items) - 1} more)" if len(self.items) > 1 else ""
        return f"{image} {about[:120]!r}{more}".lstrip() if about else f"{image}{more}"


class Publisher:
    """Enters chunks in the ledger and publishes them; thread-safe.

    The app has no result backend: with one, Celery would subscribe to every result it publishes.
    """

    def __init__(self, redis_url: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._app = Celery("blipline.producer", broker=redis_url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options=BROKER_TRANSPORT_OPTIONS,
            broker_connection_timeout=BROKER_TRANSPORT_OPTIONS["socket_connect_timeout"],
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            # Redis being away is an error that the caller hears of at once.
            task_publish_retry=False,
        )

    def publish(self, chunk: Chunk, queue: Queue) -> None:
        """Publish one chunk; Flower shows it from now on."""
        self._ledger.open([chunk.id])
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                self._send(producer, chunk, queue, announce=True)
        except Exception:
            # The caller hears of it, and has no id to ask about.
            with suppress(redis.RedisError):
                self._ledger.withdraw([chunk.id])
            raise

    def publish_many(self, chunks: Sequence[Chunk], queue: Queue) -> None:
        """Publish chunks in one round trip, PIPELINE_MESSAGES of them at most.

        A stream of bulk chunks is not announced one by one: Flower shows each as it is received.
        """
        self._ledger.open([chunk.id for chunk in chunks])
        for attempt in range(PUBLISH_ATTEMPTS):
            try:
                with (
                    self._app.producer_pool.acquire(block=True) as producer,
                    producer.batch(max_size=PIPELINE_MESSAGES),
                ):
                    for chunk in chunks:
                        self._send(producer, chunk, queue, announce=False)
                return
            except BatchPublishError:
                # A part may be in. The same ids again do no harm: a second delivery joins the
                # first, or is answered from its stored result.
                if attempt == PUBLISH_ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)

    def close(self) -> None:
        """Give the connections back."""
        self._app.close()

    def _send(self, producer: Any, chunk: Chunk, queue: Queue, *, announce: bool) -> None:
        amqp = self._app.amqp
        message = amqp.as_task_v2(
            chunk.id,
            chunk.task.value,
            kwargs={"items": chunk.items, "options": chunk.options},
            argsrepr="",
            kwargsrepr=chunk.summary,
            create_sent_event=announce,
        )
        amqp.send_task_message(producer, chunk.task.value, message, queue=queue.value)
