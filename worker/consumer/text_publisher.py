"""Texts of running jobs, published in Redis while they grow.

Each job has one key with the text so far, which readers poll. So a reader that is late or lost a
connection misses nothing, memory is bounded by the text, and nothing has to be trimmed: the key is
deleted before the job ends, or expires if its consumer dies.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

import redis

from producer.ledger.keys import Keys

log = logging.getLogger(__name__)

#: Seconds that a text outlives its consumer.
TTL_S: Final = 60
#: Seconds after a write in which further texts are collected for the next one.
PAUSE_S: Final = 0.03


class TextPublisher:
    """A thread that publishes the newest texts; it starts with the first one.

    Publishing is a best effort: after an error of Redis the next text follows, or the result.
    """

    def __init__(self, client: redis.Redis, keys: Keys = Keys()) -> None:  # noqa: B008 - immutable
        self._redis, self._keys = client, keys
        #: Guards the texts; a second lock orders writes and deletions.
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._texts: dict[str, str] = {}
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def publish(self, job_id: str, text: str) -> None:
        """Publish the text of a job soon; does not block."""
        with self._lock:
            self._texts[job_id] = text
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="text-publisher", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def end(self, job_id: str) -> None:
        """Delete the text of a job that ends; no text follows."""
        with self._write_lock:
            with self._lock:
                self._texts.pop(job_id, None)
            try:
                self._redis.delete(self._keys.partial_text(job_id))
            except redis.RedisError as error:
                # It expires.
                log.warning("cannot delete the text of a job: %s", error)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self._write()
            except redis.RedisError as error:
                log.warning("cannot publish the text of a job: %s", error)
            self._closed.wait(PAUSE_S)

    def _write(self) -> None:
        with self._write_lock:
            with self._lock:
                texts, self._texts = self._texts, {}
            pipe = self._redis.pipeline(transaction=False)
            for job_id, text in texts.items():
                pipe.set(self._keys.partial_text(job_id), text, ex=TTL_S)
            pipe.execute()
