"""Arguments and return values of the ledger: job records, metadata, results, events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import contract
from ..contract import ChunkPayload, ErrorCode, ItemResult, Queue, State

if TYPE_CHECKING:
    from opentelemetry.trace import Span


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of a chunk: one result for each item, or one error for all of them."""

    results: list[ItemResult] | None = None
    error: ItemResult | None = None
    #: True if Redis has lost the job (see lost.lua).
    lost: bool = False
    #: Unix s at which a worker started the job and at which it ended; None: unknown or not started.
    started_at: float | None = None
    ended_at: float | None = None

    @classmethod
    def failed(cls, code: ErrorCode, message: str) -> ChunkResult:
        """Return the result of a chunk whose items failed for the same reason."""
        return cls(error=contract.failure(code, message))

    @classmethod
    def decode(cls, stored: bytes | str) -> ChunkResult:
        """Read a result of Celery's result backend."""
        meta = json.loads(stored)
        result = meta["result"]
        if meta["status"] == "SUCCESS" and isinstance(result, list):
            return cls(result, started_at=meta.get("started_at"), ended_at=_ended_at(meta))
        if meta["status"] == "REVOKED":
            return cls.failed(ErrorCode.CANCELLED, "the task was revoked")
        # Celery itself failed the task: its name is unknown, or its arguments do not match.
        message = result.get("exc_message") if isinstance(result, dict) else result
        lost = isinstance(result, dict) and result.get("exc_type") == "JobExpired"
        error = contract.failure(ErrorCode.INTERNAL, f"{meta['status'].lower()}: {message}")
        return cls(error=error, lost=lost)

    def encode(self, task_id: str) -> str:
        """Return the results as Celery's result backend stores those of a finished task."""
        meta = {"status": "SUCCESS", "result": self.results, "traceback": None, "children": []}
        done = datetime.now(UTC).isoformat()
        return json.dumps({**meta, "task_id": task_id, "date_done": done})

    def result(self, index: int) -> ItemResult:
        """Return the result of one item."""
        if self.results is None:
            assert self.error is not None
            return self.error
        if index >= len(self.results):
            return contract.failure(ErrorCode.INTERNAL, "no result from the worker for this item")
        return self.results[index]


def _ended_at(meta: dict[str, Any]) -> float | None:
    """Return the time that Celery's result backend stores, in UTC; None if there is none."""
    try:
        ended = datetime.fromisoformat(meta["date_done"])
    except (KeyError, TypeError, ValueError):
        return None
    return (ended if ended.tzinfo is not None else ended.replace(tzinfo=UTC)).timestamp()


class JobSnapshot(NamedTuple):
    """The state of a job at one moment."""

    state: State
    #: The result, once the job has ended.
    result: ChunkResult | None = None
    #: Unix s at which a worker started the current attempt of a running job; None: unknown.
    started_at: float | None = None


class EnqueueStatus(Enum):
    """The outcome of enqueueing a job."""

    ENTERED = b"entered"
    #: The job was enqueued before.
    KNOWN = b"known"
    #: The chunk was enqueued into a cancelled batch.
    CANCELLED = b"cancelled"
    #: Another job has its id.
    DIFFERS = b"differs"
    #: The batch of the chunk was deleted.
    DELETED = b"deleted"
    #: An earlier chunk of the batch was not enqueued, or Redis has lost it.
    GAP = b"gap"
    #: The queue has reached its limit.
    FULL = b"full"
    #: The images of open jobs have reached their limit.
    BLOBS_FULL = b"blobs_full"
    #: The account has reached its quota of stored bytes.
    ACCOUNT_FULL = b"account_full"
    #: All accounts together have reached their quota.
    STORAGE_FULL = b"storage_full"
    #: The job names an image that its account has not uploaded.
    BLOB_UNKNOWN = b"blob_unknown"


@dataclass(frozen=True, slots=True)
class Depth:
    """The open work at one moment."""

    #: Items without a result, by their queue.
    items: dict[Queue, int]
    #: Jobs, each of 1 to N items, that consumers run.
    running_jobs: int
    #: Bytes of the uploaded images that open jobs name.
    blob_bytes: int
    #: Workers that have sent a sign of life within the last `WORKER_ALIVE_S` seconds.
    workers: int = 0
    #: Dead jobs, some of whose records may have expired.
    dead_jobs: int = 0
    #: Messages that no worker can process (`blipline dead list`).
    malformed_messages: int = 0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of the open work and of the stored bytes; 0 means unlimited."""

    max_items: int = 0
    max_blob_bytes: int = 0
    #: Quotas of each account and of all accounts together.
    max_account_bytes: int = 0
    max_total_bytes: int = 0


UNLIMITED: Final = QueueLimits()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job record; prelude.lua describes its text format."""

    id: str
    queue: str
    #: Owner of the submitter queue in which it waits.
    submitter: str
    items: int
    #: SHA-256 of each uploaded image that it names.
    blobs: tuple[str, ...]
    message: str
    #: A `ChunkPayload` as JSON.
    payload: str
    #: Estimated bytes of the result, which the account's usage reserves; not stored.
    result_bytes: int = 0

    @property
    def generation(self) -> str:
        """The token of the record's current run: an id can be enqueued again."""
        return str(json.loads(self.message)["headers"]["entry"])

    def encode(self) -> str:
        """Return the text format."""
        head = " ".join([str(self.items), self.queue, self.submitter, *self.blobs])
        return f"{head}\n{self.message}\n{self.payload}"

    @classmethod
    def decode(cls, task_id: str, text: bytes | str) -> JobRecord:
        """Read the text format."""
        text = text.decode() if isinstance(text, bytes) else text
        head, message, payload = text.split("\n", 2)
        items, queue, submitter, *blobs = head.split(" ")
        return cls(task_id, queue, submitter, int(items), tuple(blobs), message, payload)


@dataclass(frozen=True, slots=True)
class JobMetadata:
    """The metadata of a job or batch: a text, a digest of the payload, a webhook URL."""

    #: Text of the submitter, returned unchanged.
    text: str = ""
    #: Digest of the request, for a chunk of a batch or a job with a chosen id; '' matches any
    #: request.
    digest: str = ""
    #: URL of the webhook that reports the end of the job or batch; '': none.
    webhook: str = ""


#: The metadata of most jobs.
NO_METADATA: Final = JobMetadata()


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued, with its metadata, event and images."""

    record: JobRecord
    metadata: JobMetadata = NO_METADATA
    #: Celery event that monitors receive once it is enqueued; '': none.
    event: str = ""
    #: Local images that it names by their SHA-256, to be uploaded before it is enqueued.
    images: tuple[bytes, ...] = ()
    #: Span of its submission, which ends once it is enqueued; None without traces.
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """The end of a job or batch that was submitted with a webhook."""

    #: ``job`` or ``batch``.
    kind: str
    id: str
    url: str
    #: Event number: a job that failed can be requeued and end again.
    event: int
    #: Number of earlier delivery attempts.
    attempts: int
    #: Text of the metadata.
    metadata: str
    #: True if it was delivered or given up before, and somebody has asked for it again.
    resent: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The response to a consumer's claim: run the job, return its stored result, or neither."""

    #: The stored result, which the consumer returns.
    outcome: ChunkResult | None = None
    #: True if the consumer runs the job. If this is false and there is no outcome, the consumer
    #: drops the message.
    run: bool = False
    #: True if another consumer runs the job now.
    busy: bool = False
    cancelled: bool = False
    #: Number of claims, this one included.
    attempts: int = 1
    #: Number of consumers that died at an isolated item, by the item's index.
    suspects: dict[int, int] = field(default_factory=dict)
    #: The payload of the job record; None for other programs' messages.
    payload: ChunkPayload | None = None
    #: Time of the claim by Redis's clock (Unix seconds).
    time: float = 0.0
    #: Deadline by the same clock; None if the ledger knows none.
    deadline: float | None = None
    #: Seconds since the submission of a job of the ledger.
    waited_s: float | None = None
