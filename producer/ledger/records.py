"""What the ledger takes in and gives out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from .. import contract
from ..contract import ErrorCode, Queue


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A finished chunk: one result for each item, or one error for all of them."""

    results: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None

    @classmethod
    def failed(cls, code: ErrorCode, message: str) -> ChunkResult:
        """All items of the chunk failed for the same reason."""
        return cls(error=contract.failure(code, message))

    @classmethod
    def decode(cls, stored: bytes | str) -> ChunkResult:
        """Read what Celery's result backend wrote."""
        meta = json.loads(stored)
        result = meta["result"]
        if meta["status"] == "SUCCESS" and isinstance(result, list):
            return cls(result)
        # Celery itself failed the task: no worker knows its name, or its arguments do not fit.
        about = result.get("exc_message") if isinstance(result, dict) else result
        return cls.failed(ErrorCode.INTERNAL, f"{meta['status'].lower()}: {about}")

    def result(self, index: int) -> dict[str, Any]:
        """The result of one item."""
        if self.results is None:
            assert self.error is not None
            return self.error
        if index >= len(self.results):
            return contract.failure(ErrorCode.INTERNAL, "the worker gave no result for this item")
        return self.results[index]


class EnqueueStatus(Enum):
    """What became of a job that was to be entered."""

    ENTERED = b"entered"
    #: It was entered before, and is not entered twice.
    KNOWN = b"known"
    #: Its id was given to something else.
    DIFFERS = b"differs"
    #: Its batch was deleted.
    DELETED = b"deleted"
    #: Its queue has no room, or there is none for its images.
    FULL = b"full"
    BLOBS_FULL = b"blobs_full"


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is open at one moment."""

    #: Items without a result, by their queue.
    items: dict[Queue, int]
    #: Jobs, each of 1 to N items, that consumers have begun.
    running_jobs: int
    #: Bytes of the uploaded images that open jobs name.
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may be open; 0 is no bound."""

    max_items: int = 0
    max_blob_bytes: int = 0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the ledger holds it; ledger.lua has the form."""

    id: str
    queue: str
    #: Whose turn in the queue it takes.
    submitter: str
    items: int
    #: SHA-256 of each uploaded image that it names.
    blobs: tuple[str, ...]
    message: str
    #: JSON of what is asked.
    payload: str

    @property
    def generation(self) -> str:
        """Tells this time that the job was entered from others under the same id."""
        return str(json.loads(self.message)["headers"]["entry"])

    def encode(self) -> str:
        head = " ".join([str(self.items), self.queue, self.submitter, *self.blobs])
        return f"{head}\n{self.message}\n{self.payload}"

    @classmethod
    def decode(cls, task_id: str, text: bytes | str) -> JobRecord:
        text = text.decode() if isinstance(text, bytes) else text
        head, message, asked = text.split("\n", 2)
        items, queue, submitter, *blobs = head.split(" ")
        return cls(task_id, queue, submitter, int(items), tuple(blobs), message, asked)


@dataclass(frozen=True, slots=True)
class JobMetadata:
    """What is kept with a job or a batch for whoever submitted it."""

    #: Comes back as it is.
    text: str = ""
    #: Of a job whose id the submitter chose: tells what is asked from everything else.
    digest: str = ""
    #: The URL that is told when it has ended.
    webhook: str = ""


#: What most jobs have.
NO_METADATA: Final = JobMetadata()


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be entered, and what goes with it."""

    record: JobRecord
    metadata: JobMetadata = NO_METADATA
    #: What monitors are told once it is in; '': nothing.
    event: str = ""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An end that somebody wants to be told of."""

    #: ``job`` or ``batch``.
    kind: str
    id: str
    url: str
    #: How often it has ended by now: what failed can be asked again.
    event: int
    #: How often somebody tried to tell of this end before.
    tries: int
    #: The note that it was submitted with.
    note: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a consumer is to do about a message that it was handed."""

    #: Its stored result: to be handed back.
    outcome: ChunkResult | None = None
    #: Whether it is to be run; if it is not, and there is no outcome, others see to it.
    run: bool = False
    cancelled: bool = False
    #: How often it has been begun, this time included.
    attempts: int = 1
    #: How often a consumer died while it had this item alone, by the item's place.
    suspects: dict[int, int] = field(default_factory=dict)
    #: What is asked, where the ledger says it: task, items, options.
    payload: dict[str, Any] | None = None
