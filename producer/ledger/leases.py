"""Leases on jobs: claim, heartbeat, finish, and the sweep that redelivers lost jobs."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable

import redis

from .. import contract
from .aborts import JobAborter
from .keys import Keys
from .records import ChunkResult, Claim
from .script import LedgerScript

#: A running job: its id, and the generation of its message ('' in other programs' messages).
Run = tuple[str, str]


class Leases:
    """The consumers' side of the ledger; thread-safe. Raises redis-py's errors as they are."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
        *,
        blob_ttl_s: int = contract.BLOB_TTL_S,
        lease_s: float = contract.LEASE_S,
    ) -> None:
        self._script = LedgerScript(client, keys.prefix)
        self._blob_ttl_s = blob_ttl_s
        self._lease_s = lease_s
        self._aborter = JobAborter(client, keys, blob_ttl_s=blob_ttl_s, lease_s=lease_s)

    def claim(self, task_id: str, generation: str = "", started_at: float | None = None) -> Claim:
        """Claim a job, unless another consumer holds its lease or it has ended.

        `generation` is that of the job's message; other programs' messages have none. `started_at`
        is the start that clients see while the job runs (Unix s); None means now.
        """
        call_id = secrets.token_hex(6)
        start = f"{time.time() if started_at is None else started_at:.3f}"
        arguments = (task_id, generation, call_id, self._lease_s, start)
        status, *values = self._script.call("claim", *arguments)
        if status == b"done":
            return Claim(outcome=ChunkResult.decode(values[0]))
        if status != b"run":
            return Claim(busy=status == b"busy")
        cancelled, attempts, suspects, payload, claimed_at, deadline, opened_at = values
        return Claim(
            run=True,
            cancelled=bool(cancelled),
            attempts=attempts,
            suspects={int(index): deaths for index, deaths in json.loads(suspects).items()},
            payload=json.loads(payload) if payload else None,
            time=float(claimed_at),
            deadline=float(deadline) if deadline else None,
            waited_s=max(0.0, float(claimed_at) - float(opened_at)) if opened_at else None,
        )

    def heartbeat(self, runs: Iterable[Run]) -> set[Run]:
        """Renew the leases of running jobs; return the runs to be stopped.

        Their jobs were cancelled, deleted, or queued again.
        """
        names = [name for run in runs for name in run]
        stopped = [name.decode() for name in self._script.call_paged("heartbeat", names=names)]
        return set(zip(stopped[::2], stopped[1::2], strict=True))

    def mark_suspect(self, task_id: str, suspects: dict[int, int]) -> None:
        """Store the index of the item about to be processed and the deaths at each item.

        If this consumer dies, the next one receives them with its claim.
        """
        self._script.call("mark_suspect", task_id, json.dumps(suspects))

    def finish(
        self,
        task_id: str,
        stored: str,
        failed_items: int,
        *,
        generation: str = "",
        dead: bool = False,
    ) -> None:
        """Store a job's result, publish it to waiting clients and close the job, in one step.

        The first result of a job is kept, so a chunk that was delivered twice counts once. A result
        of another `generation` is dropped. -1 failed items means all; `dead` adds the job to the
        dead letters.
        """
        self._script.call(
            "finish",
            task_id,
            generation,
            stored,
            contract.RESULT_TTL_S,
            contract.RESULT_TTL_S + contract.TOMBSTONE_S,
            failed_items,
            int(dead),
            self._blob_ttl_s,
        )

    def revoke(self, task_id: str, revoked: str) -> None:
        """Revoke a task as Celery requests (see `JobAborter.revoke`)."""
        self._aborter.revoke(task_id, revoked)

    def expire_due(self) -> None:
        """End jobs past their deadline that no consumer runs (see `JobAborter.expire_due`)."""
        self._aborter.expire_due()

    def report_worker(self, worker: str) -> None:
        """Count a worker as alive for WORKER_ALIVE_S seconds."""
        self._script.call("report_worker", worker, contract.WORKER_ALIVE_S)

    def report_models(self, models: Iterable[str]) -> list[str]:
        """Count models (`name@commit`) as alive for WORKER_ALIVE_S; return those of all workers."""
        answer = self._script.call("report_models", contract.WORKER_ALIVE_S, *models)
        return [model.decode() for model in answer]

    def sweep(self, pause_s: float) -> int:
        """Redeliver jobs with expired leases, ahead of all other jobs; return their number.

        It does nothing within `pause_s` after another consumer's sweep.
        """
        return int(self._script.call("sweep", max(1, int(pause_s * 1000)), self._lease_s))
