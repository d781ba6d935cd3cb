"""Celery's Redis result backend, extended to close jobs in the ledger."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import redis
from celery import states
from celery.backends.redis import RedisBackend

from producer.connection.connect import connect
from producer.connection.outage import is_transient
from producer.connection.url import redact_password
from producer.contract import DEAD_CODES
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from worker.consumer.request import ledger_generation
from worker.consumer.tracing import ChunkTrace

log = logging.getLogger(__name__)


class LedgerBackend(RedisBackend):
    """A result backend that stores a result and closes its job record atomically.

    The first result of a task is kept, so a chunk that is delivered twice has one result. That does
    not require the look-up that Celery's own backend makes before each write.

    Celery's setting `blipline_redis_url_with_password` contains the Redis URL: Celery's own
    parameters cannot express every URL that producer/connection/url.py accepts.
    """

    @cached_property
    def client(self) -> redis.Redis:
        """The client that all threads share; it waits out outages."""
        return connect(self._redis_url, patient=True)

    @cached_property
    def _leases(self) -> Leases:
        conf = self.app.conf
        prefix = conf["result_backend_transport_options"]["global_keyprefix"]
        return Leases(self.client, Keys(prefix), blob_ttl_s=conf["blipline_blob_ttl_s"])

    @property
    def _redis_url(self) -> str:
        return str(self.app.conf["blipline_redis_url_with_password"])

    def as_uri(self, include_password: bool = False) -> str:
        """Return the address of the result store, for display."""
        return self._redis_url if include_password else redact_password(self._redis_url)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Return whether to retry; also true while Redis is full, loading, or a replica.

        Without a retry, the result and the acknowledgement are lost; the ledger then redelivers
        the job.
        """
        return is_transient(exc) or bool(super().exception_safe_to_retry(exc))

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Log that the consumer waits for Redis."""
        log.warning("cannot store a result: %s; trying again", exc)

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        if state not in states.READY_STATES:
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = task_id
        if (started_at := getattr(request, "started_at", None)) is not None:
            meta["started_at"] = started_at
        if state == states.REVOKED:
            self.ensure(self._leases.revoke, (task_id, self.encode(meta)))
            return result
        succeeded = state == states.SUCCESS
        # If Celery itself fails a task, all of its items have failed.
        errors = [item["error"]["code"] for item in result if "error" in item] if succeeded else []
        failed = len(errors) if succeeded else -1
        dead = not succeeded or not DEAD_CODES.isdisjoint(errors)
        generation = "" if request is None else ledger_generation(request)
        store = partial(self._leases.finish, generation=generation, dead=dead)
        trace: ChunkTrace | None = getattr(request, "chunk_trace", None)
        with nullcontext() if trace is None else trace.step("store result"):
            self.ensure(store, (task_id, self.encode(meta), failed))
        if trace is not None:
            trace.end()
        return result
