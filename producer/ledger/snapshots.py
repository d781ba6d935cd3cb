"""The states of jobs and of the queues, each read in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from .. import contract
from ..contract import ErrorCode, ItemResult, Queue, State
from .ids import created_at
from .keys import Keys
from .records import ChunkResult, Depth, JobSnapshot


def read_snapshots(
    client: redis.Redis, keys: Keys, task_ids: Sequence[str]
) -> tuple[list[JobSnapshot], list[str]]:
    """Return the states of jobs, and the ids of those open ones whose record is missing."""
    # No transaction: a full Redis rejects even reads in one. The results are read last, so that a
    # job that ends between two of these commands is seen as open or as done.
    pipe = client.pipeline(transaction=False)
    pipe.zmscore(keys.open, list(task_ids))
    pipe.zmscore(keys.running, list(task_ids))
    pipe.hmget(keys.attempts, list(task_ids))
    pipe.mget([keys.result(task_id) for task_id in task_ids])
    pipe.time()
    for task_id in task_ids:
        pipe.exists(keys.record(task_id))
    opened, running, attempts, stored, (now, _), *recorded = pipe.execute()
    answers = zip(task_ids, opened, running, attempts, stored, strict=True)
    snapshots = [_snapshot_of(*answer, now) for answer in answers]
    lost = [
        task_id
        for task_id, snapshot, exists in zip(task_ids, snapshots, recorded, strict=True)
        if snapshot.state in (State.QUEUED, State.RUNNING) and not exists
    ]
    return snapshots, lost


def read_depth(client: redis.Redis, keys: Keys) -> Depth:
    """Return the open items of each queue, running jobs, images, workers and dead letters."""
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(keys.depth)
    pipe.zcard(keys.running)
    pipe.zrange(keys.workers, 0, -1, withscores=True)
    pipe.time()
    pipe.zcard(keys.dead)
    pipe.llen(keys.malformed)
    fields, running, workers, (now, _), dead, malformed = pipe.execute()
    counts = {name.decode(): int(count) for name, count in fields.items()}
    return Depth(
        {queue: counts.get(queue.value, 0) for queue in Queue},
        running,
        counts.get("blob_bytes", 0),
        sum(at > now - contract.WORKER_ALIVE_S for _, at in workers),
        dead,
        malformed,
    )


def _snapshot_of(
    task_id: str, opened: Any, heartbeat: Any, attempts: Any, stored: Any, now: int
) -> JobSnapshot:
    if stored is not None:
        result = ChunkResult.decode(stored)
        if result.lost:
            return JobSnapshot(State.EXPIRED)
        return JobSnapshot(_final_state(result.result(0)), result)
    if opened is not None and heartbeat is None:
        return JobSnapshot(State.QUEUED)
    if opened is not None:
        return JobSnapshot(State.RUNNING, started_at=_started_at(attempts))
    # An id that is older than the retention time of results belongs to a job that has ended.
    created = created_at(task_id)
    expired = created is not None and created < now - contract.RESULT_TTL_S
    return JobSnapshot(State.EXPIRED if expired else State.UNKNOWN)


def _started_at(attempts: bytes | None) -> float | None:
    """Return the time of the last claim; None if a consumer of an earlier version claimed."""
    # The number of claims, and the id and time of the last one.
    parts = (attempts or b"").split()
    return float(parts[2]) if len(parts) > 2 else None


def _final_state(result: ItemResult) -> State:
    error = result.get("error")
    if error is None:
        return State.DONE
    return State.CANCELLED if error["code"] == ErrorCode.CANCELLED else State.FAILED
