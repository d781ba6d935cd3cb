"""The ledger: what is known of every job, kept in Redis beside the queues.

A job's row is entered together with its place in the queue, and closed by the very script that
stores its result. So 'waiting' can be told from 'never heard of it', a result is never there
without the books saying so, and what Celery loses on the way is found and pushed again: ledger.lua
says how.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

import redis

from .. import contract
from ..contract import ErrorCode, Queue, State
from .ids import made_at, parse_chunk_id
from .keys import Keys
from .message import event_channel
from .records import (
    NO_METADATA,
    ChunkResult,
    Claim,
    Depth,
    EnqueueStatus,
    JobMetadata,
    JobRecord,
    NewJob,
    QueueLimits,
    WebhookEvent,
)

#: Jobs that one call of the script deals with at most: it holds up everybody else.
PAGE_JOBS: Final = 64

#: Milliseconds for replicas to take over what was entered.
REPLICAS_WAIT_MS: Final = 5000

_SCRIPT: Final = resources.files(__package__).joinpath("ledger.lua").read_text()


class Ledger:
    """Reads and writes the books; thread-safe. Raises redis-py's errors as they are."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
        *,
        blob_ttl_s: int = contract.BLOB_TTL_S,
        lease_s: float = contract.LEASE_S,
    ) -> None:
        self._redis = client
        self.keys = keys
        self._blob_ttl_s = blob_ttl_s
        self._lease_s = lease_s
        self._script = client.register_script(_SCRIPT)

        database = client.connection_pool.connection_kwargs.get("db") or 0
        self._channel = event_channel(keys.prefix, database)

    def _call(self, operation: str, *arguments: Any) -> Any:
        return self._script(args=[self.keys.prefix, operation, *arguments])

    # What producers do.

    def enqueue(
        self, postings: Sequence[NewJob], bounds: QueueLimits, replicas: int = 0
    ) -> list[EnqueueStatus]:
        """Enter jobs and queue them, each in one step, all in one round trip.

        Notes are kept of jobs that are no chunks; a batch has its own (see `open_batch`). What was
        entered before is not entered again, so a call whose answer was lost can be repeated.
        Raises redis.TimeoutError when fewer than `replicas` have it all in time.
        """
        calls = [self._entering(one, bounds) for one in postings]
        try:
            answers = self._send(calls, replicas)
        except redis.exceptions.NoScriptError:
            # Another server than before, or one that was started anew.
            answers = self._send(calls, replicas, load=True)
        if replicas and (have := answers.pop()) < replicas:
            raise redis.TimeoutError(f"{have} of {replicas} replicas have it (BLIPLINE_REPLICAS)")
        return [EnqueueStatus(answer) for answer in answers]

    def _entering(self, posting: NewJob, bounds: QueueLimits) -> tuple[Any, ...]:
        row, note = posting.record, posting.metadata
        terms = (bounds.max_items, bounds.max_blob_bytes, *(parse_chunk_id(row.id) or ("", "")))
        noted = (note.text, note.digest, note.webhook)
        told = (self._channel, posting.event)
        return (self.keys.prefix, "enter", row.id, row.encode(), *terms, *noted, *told)

    def _send(
        self, calls: Sequence[tuple[Any, ...]], replicas: int, *, load: bool = False
    ) -> list[Any]:
        """Call the script so often in one round trip.

        Not as `_call` does: redis-py asks, before each pipeline, whether the script is there.
        """
        pipe = self._redis.pipeline(transaction=False)
        if load:
            pipe.script_load(_SCRIPT)
        for arguments in calls:
            pipe.evalsha(self._script.sha, 0, *arguments)
        if replicas:
            # On this very connection: it speaks of what was written before.
            pipe.wait(replicas, REPLICAS_WAIT_MS)
        return pipe.execute()[int(load) :]

    def open_batch(
        self,
        batch_id: str,
        fields: dict[str, Any],
        keep_s: int,
        note: JobMetadata = NO_METADATA,
        pass_id: str = "",
    ) -> dict[str, str]:
        """Enter a batch's record if there is none; returns the one that is there.

        `pass_id` tells this pass over its items from others: where it is not the record's `pass`,
        this one goes on with what another one began (see `go_on`).
        """
        terms = (keep_s, keep_s + contract.TOMBSTONE_S)
        wanted = (fields["task"], fields["chunk_items"], fields["options"])
        answer = self._call("batch", batch_id, *terms, *wanted, note.text, note.webhook, pass_id)
        words = [word.decode() for word in answer]
        return dict(zip(words[::2], words[1::2], strict=True))

    def resume_batch(self, batch_id: str, pass_id: str) -> None:
        """Say that a batch's items are submitted once more; those that are in already are known."""
        self._call("go_on", batch_id, pass_id)

    def seal_batch(self, batch_id: str) -> int | None:
        """Say that all of a batch is in; returns its items, None where it is gone."""
        total = int(self._call("submitted", batch_id))
        return None if total < 0 else total

    def interrupt_batch(self, batch_id: str, pass_id: str) -> None:
        """Say that a pass was cut short: until another one goes on, the batch is what is in.

        Nothing happens where all of it is in, or where another pass has begun since.
        """
        self._call("cut", batch_id, pass_id)

    def requeue(self, row: JobRecord, seen: JobRecord) -> bool:
        """Ask an ended job again; False where it is open, or is not what was seen any more."""
        return bool(self._call("again", row.id, row.encode(), seen.generation))

    def delete_jobs(self, task_ids: Sequence[str]) -> None:
        """Drop all that is known of jobs, whether they have ended or not."""
        for page in _pages(task_ids):
            self._call("forget", self._blob_ttl_s, *page)

    def cancel(self, job_or_batch_id: str) -> None:
        """Mark a job, or every chunk of a batch, as no longer wanted."""
        self._call("cancel", job_or_batch_id, contract.RESULT_TTL_S + contract.TOMBSTONE_S)

    def snapshot(self, task_id: str) -> tuple[State, ChunkResult | None]:
        """What is known of a job, and how it ended if it did."""
        return self.snapshot_all([task_id])[0]

    def snapshot_all(self, task_ids: Sequence[str]) -> list[tuple[State, ChunkResult | None]]:
        """What is known of jobs, in one round trip."""
        if not task_ids:
            return []
        # No transaction: a full Redis refuses even to read in one. So the results come last, or a
        # job that ends meanwhile would be neither open nor done.
        pipe = self._redis.pipeline(transaction=False)
        pipe.zmscore(self.keys.open, list(task_ids))
        pipe.zmscore(self.keys.running, list(task_ids))
        pipe.mget([self.keys.cancelled(task_id) for task_id in task_ids])
        pipe.mget([self.keys.result(task_id) for task_id in task_ids])
        answers = zip(task_ids, *pipe.execute(), strict=True)
        return [_state(*answer) for answer in answers]

    def records(self, task_ids: Sequence[str]) -> list[JobRecord | None]:
        """Rows that are kept: of open jobs, and for a time of those that failed."""
        found = self._redis.mget([self.keys.row(task_id) for task_id in task_ids])
        return [
            None if text is None else JobRecord.decode(task_id, text)
            for task_id, text in zip(task_ids, found, strict=True)
        ]

    def chunk_results(self, task_ids: Sequence[str]) -> list[ChunkResult | None]:
        """How jobs ended; None for those without a stored result."""
        stored = self._redis.mget([self.keys.result(task_id) for task_id in task_ids])
        return [None if one is None else ChunkResult.decode(one) for one in stored]

    def metadata(self, task_id: str) -> str | None:
        """What a job was submitted with; None where nothing was noted, or is kept no longer."""
        found: Any = self._redis.hget(self.keys.note(task_id), "note")
        return None if found is None else found.decode()

    def touch(self, shas: Sequence[str]) -> list[bool]:
        """Keep uploads until their jobs are entered; which of them are held at all."""
        held: list[int] = []
        for page in _pages(shas):
            held += self._call("touch", contract.UPLOAD_TTL_S, *page)
        return [bool(one) for one in held]

    def depth(self) -> Depth:
        """How much is open now."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self.keys.depth)
        pipe.zcard(self.keys.running)
        fields, running = pipe.execute()
        counts = {name.decode(): int(count) for name, count in fields.items()}
        return Depth(
            {queue: counts.get(queue.value, 0) for queue in Queue},
            running,
            counts.get("blob_bytes", 0),
        )

    # What consumers do.

    def claim(self, task_id: str, generation: str = "") -> Claim:
        """Note that a job is begun, if it is to be run here and now.

        `generation` is what its message says of the row that it belongs to; other programs' have none.
        """
        what, *more = self._call("begin", task_id, generation, secrets.token_hex(6), self._lease_s)
        if what == b"done":
            return Claim(outcome=ChunkResult.decode(more[0]))
        if what != b"run":
            return Claim()
        cancelled, attempts, suspects, asked = more
        return Claim(
            run=True,
            cancelled=bool(cancelled),
            attempts=attempts,
            suspects={int(place): deaths for place, deaths in json.loads(suspects).items()},
            payload=json.loads(asked) if asked else None,
        )

    def heartbeat(self, task_ids: Iterable[str]) -> set[str]:
        """A sign of life for jobs that are being run; returns those that somebody has cancelled."""
        cancelled: set[str] = set()
        for page in _pages(list(task_ids)):
            cancelled.update(name.decode() for name in self._call("beat", *page))
        return cancelled

    def mark_suspect(self, task_id: str, suspects: dict[int, int]) -> None:
        """Note which item is tried now: should this consumer die, the next one knows of which."""
        self._call("suspect", task_id, json.dumps(suspects))

    def finish(
        self,
        task_id: str,
        stored: str,
        failed_items: int,
        *,
        generation: str = "",
        dead: bool = False,
    ) -> None:
        """Store a job's result, tell those who wait for it, and close its row, all at once.

        The first result of a job stays: a chunk that was delivered twice counts once. A result for
        another `generation` of the job is dropped. -1 failed items are all of them; `dead` puts the job
        among the dead letters.
        """
        record_s = contract.RESULT_TTL_S + contract.TOMBSTONE_S
        terms = (contract.RESULT_TTL_S, record_s, failed_items, int(dead), self._blob_ttl_s)
        self._call("finish", task_id, generation, stored, *terms)

    def sweep(self, pause_s: float) -> int:
        """Push lost jobs again; returns their number.

        Whoever comes within `pause_s` after another sweep does nothing.
        """
        return int(self._call("sweep", max(1, int(pause_s * 1000)), self._lease_s))

    # What those do who send webhooks.

    def claim_due_webhooks(self, most: int, lease_s: float) -> list[WebhookEvent]:
        """Ends of jobs and batches to tell of now; nobody else is given them for so long."""
        return [
            WebhookEvent(kind, task_id, url, int(event), int(tries), note)
            for kind, task_id, url, event, tries, note in (
                (word.decode() for word in words)
                for words in self._call("webhooks_due", most, lease_s)
            )
        ]

    def settle_webhook(self, told: WebhookEvent, about: str, again_in_s: float | None) -> None:
        """Note how telling went; it is due again in so many seconds, or, None, never."""
        pause_s = -1 if again_in_s is None else again_in_s
        self._call("webhook_told", told.kind, told.id, told.event, pause_s, about)

    def defer_webhook(self, one: WebhookEvent, pause_s: float) -> None:
        """Give one back that was not tried; it is due again in so many seconds."""
        self._call("webhook_put_off", one.kind, one.id, one.event, pause_s)


def _pages(task_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (task_ids[at : at + PAGE_JOBS] for at in range(0, len(task_ids), PAGE_JOBS))


def _state(
    task_id: str, opened: Any, begun: Any, cancelled: Any, stored: Any
) -> tuple[State, ChunkResult | None]:
    if stored is not None:
        outcome = ChunkResult.decode(stored)
        return _ended_as(outcome.result(0)), outcome
    if cancelled:
        return State.CANCELLED, None
    if opened is not None:
        return (State.QUEUED if begun is None else State.RUNNING), None
    return _gone(task_id), None


def _ended_as(result: dict[str, Any]) -> State:
    error = result.get("error")
    if error is None:
        return State.DONE
    return State.CANCELLED if error["code"] == ErrorCode.CANCELLED else State.FAILED


def _gone(task_id: str) -> State:
    """Neither open nor stored: an id older than results are kept must have finished."""
    made = made_at(task_id)
    old = made is not None and made < time.time() - contract.RESULT_TTL_S
    return State.EXPIRED if old else State.UNKNOWN
