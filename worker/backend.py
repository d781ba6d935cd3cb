"""Celery's Redis result backend, made to keep the ledger."""

from __future__ import annotations

from typing import Any

import redis
from celery import states
from celery.backends.redis import RedisBackend

from producer.ledger import Ledger


class LedgerBackend(RedisBackend):
    """Stores a result and closes its ledger row in one step.

    The first result of a task stays: a chunk that was delivered twice keeps one answer, without
    the look-up that Celery's own backend makes before each write.
    """

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Also wait out what Redis itself refuses for a time: full, loading, a replica.

        An exception that is not retried loses the result and, with it, the acknowledgement.
        """
        return isinstance(exc, redis.ResponseError) or bool(super().exception_safe_to_retry(exc))

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
        failed = sum("error" in one for one in result) if state == states.SUCCESS else 1
        ledger = Ledger(self.client)
        self.ensure(ledger.finish, (task_id, self.encode(meta), failed, self.expires))
        return result
