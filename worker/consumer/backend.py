"""Celery's Redis result backend, made to keep the ledger."""

from __future__ import annotations

import logging
from functools import cached_property, partial
from typing import Any

import redis
from celery import states
from celery.backends.redis import RedisBackend

from producer.connection.connect import connect, is_transient
from producer.connection.url import redact_password
from producer.contract import DEAD_CODES
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger

log = logging.getLogger(__name__)


class LedgerBackend(RedisBackend):
    """Stores a result and closes its ledger row in one step.

    The first result of a task stays: a chunk that was delivered twice keeps one answer, without
    the look-up that Celery's own backend makes before each write.

    Its Redis is the one of Celery's setting `blipline_redis_url_with_password`: Celery's own
    parameters cannot say all that producer/connection/url.py can.
    """

    @cached_property
    def client(self) -> redis.Redis:
        """One patient client for all threads."""
        return connect(self._redis_url, patient=True)

    @cached_property
    def _ledger(self) -> Ledger:
        conf = self.app.conf
        prefix = conf["result_backend_transport_options"]["global_keyprefix"]
        return Ledger(self.client, Keys(prefix), blob_ttl_s=conf["blipline_blob_ttl_s"])

    @property
    def _redis_url(self) -> str:
        return str(self.app.conf["blipline_redis_url_with_password"])

    def as_uri(self, include_password: bool = False) -> str:
        """Where results are stored, for people."""
        return self._redis_url if include_password else redact_password(self._redis_url)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Also wait out what Redis itself refuses for a time: full, loading, a replica.

        An exception that is not retried loses the result and, with it, the acknowledgement; the
        ledger then gives the job to somebody else.
        """
        return is_transient(exc) or bool(super().exception_safe_to_retry(exc))

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """A consumer that waits says so."""
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
        succeeded = state == states.SUCCESS
        # Celery fails a task for reasons of its own: then all of it failed.
        errors = [one["error"]["code"] for one in result if "error" in one] if succeeded else []
        failed = len(errors) if succeeded else -1
        dead = not succeeded or not DEAD_CODES.isdisjoint(errors)
        entry = getattr(request, "entry", None) or ""
        store = partial(self._ledger.finish, generation=entry, dead=dead)
        self.ensure(store, (task_id, self.encode(meta), failed))
        return result
