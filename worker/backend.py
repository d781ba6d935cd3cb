"""Celery's Redis result backend, made to keep the ledger."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.backends.redis import RedisBackend

from producer import contract
from producer.ledger import Ledger


class LedgerBackend(RedisBackend):
    """Stores a result and closes its ledger row in one transaction.

    The first result of a task stays: a chunk that was delivered twice keeps one answer, without
    the look-up that Celery's own backend makes before each write.
    """

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
        self.ensure(self._store_and_close, (task_id, self.encode(meta), failed))
        return result

    def _store_and_close(self, task_id: str, stored: str, failed_items: int) -> None:
        key = contract.result_key(task_id)
        with self.client.pipeline() as pipe:
            pipe.set(key, stored, ex=self.expires, nx=True)
            # Whoever waits with Celery's own AsyncResult hears of it here.
            pipe.publish(key, stored)
            Ledger.close(pipe, task_id, failed_items)
            pipe.execute()
