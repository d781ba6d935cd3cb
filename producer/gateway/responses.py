"""What answers say; every model has an example, which the OpenAPI shows."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ..contract import Queue, State
from ..job import Result
from ..ledger.records import Depth
from ..progress import Progress
from ..settings import ClientSettings
from .metadata import RequestMetadata
from .requests import example

#: Where a batch stands.
BatchStatus = Literal["queued", "running", "done", "failed", "cancelled"]
#: Seconds after which it is worth looking again at what has not ended.
LOOK_AGAIN_S: Final = 1

#: Of the examples.
_ID: Final = "01999f7e-0000-7000-8000-000000000000"


class MatchAnswer(BaseModel):
    """How well one text fits."""

    text: str
    probability: float = Field(description="That the text describes the image, 0 to 1.")
    cosine: float = Field(description="Of the embeddings of both, -1 to 1.")


class TextOutput(BaseModel):
    """Of caption, vqa and chat."""

    model_config = ConfigDict(extra="forbid")
    text: str


class MatchOutput(BaseModel):
    """Of match: the likeliest of the texts, and all of them in their order."""

    model_config = ConfigDict(extra="forbid")
    text: str
    matches: list[MatchAnswer]


class EmbedOutput(BaseModel):
    """Of embed."""

    model_config = ConfigDict(extra="forbid")
    embedding: list[float]


class ErrorBody(BaseModel):
    """Why there is no answer: one of the contract's codes."""

    code: str
    message: str


class JobUrls(BaseModel):
    """Where to go on."""

    get: str
    cancel: str = Field(description="By DELETE.")


class JobBody(BaseModel):
    """A job as it stands."""

    model_config = example(
        id=_ID,
        object="job",
        task="vqa",
        status="done",
        created_at=1795000000.123,
        output={"text": "black"},
        error=None,
        urls={"get": f"/v1/jobs/{_ID}", "cancel": f"/v1/jobs/{_ID}"},
    )

    id: str
    object: Literal["job"] = "job"
    task: str
    status: Literal[BatchStatus, "expired"] = Field(
        description="`expired`: it has ended, and its answer is no longer kept."
    )
    created_at: float = Field(description="Unix seconds.")
    output: TextOutput | MatchOutput | EmbedOutput | None
    error: ErrorBody | None = Field(description="Of a job that failed.")
    urls: JobUrls

    @classmethod
    def of(cls, outer_id: str, noted: RequestMetadata, state: State, result: Result | None) -> Self:
        """A job under the id that its caller knows, from a look at it."""
        # There is a note, so there was a job: its result is no longer kept.
        status = State.EXPIRED if state is State.UNKNOWN else state
        at = job_url(outer_id)
        said: dict[str, Any] = {} if result is None else result.output()
        error = said.pop("error", None)
        return cls(
            id=outer_id,
            task=noted.task.short,
            status=status.value,  # type: ignore[arg-type]
            created_at=noted.created_at,
            output=_output(said),
            error=None if error is None else ErrorBody(**error),
            urls=JobUrls(get=at, cancel=at),
        )

    @property
    def ended(self) -> bool:
        """Whether looking again would change nothing."""
        return _has_ended(self.status)


def _has_ended(status: str) -> bool:
    return status not in ("queued", "running")


def _output(said: dict[str, Any]) -> TextOutput | MatchOutput | EmbedOutput | None:
    if not said:
        return None
    if "embedding" in said:
        return EmbedOutput(embedding=said["embedding"])
    text = said["text"] or ""
    if "matches" in said:
        return MatchOutput(text=text, matches=[MatchAnswer(**match) for match in said["matches"]])
    return TextOutput(text=text)


def job_url(outer_id: str) -> str:
    """Where a job is found."""
    return f"/v1/jobs/{outer_id}"


def batch_url(outer_id: str) -> str:
    """Where a batch is found."""
    return f"/v1/batches/{outer_id}"


class RequestCounts(BaseModel):
    """Items of a batch."""

    total: int = Field(description="Those that are in; final once `submitted` is true.")
    completed: int = Field(description="Those with an answer.")
    failed: int = Field(description="Those that ended with an error.")


class BatchUrls(BaseModel):
    """Where to go on."""

    get: str
    results: str
    errors: str
    events: str
    cancel: str = Field(description="By POST.")


class BatchBody(BaseModel):
    """A batch as it stands."""

    model_config = example(
        id="photos",
        object="batch",
        task="caption",
        status="running",
        created_at=1795000000.123,
        request_counts={"total": 30000, "completed": 10045, "failed": 3},
        submitted=True,
        rate=796.2,
        left_s=25.1,
        urls={
            "get": "/v1/batches/photos",
            "results": "/v1/batches/photos/results",
            "errors": "/v1/batches/photos/errors",
            "events": "/v1/batches/photos/events",
            "cancel": "/v1/batches/photos/cancel",
        },
    )

    id: str
    object: Literal["batch"] = "batch"
    task: str
    status: BatchStatus = Field(description="`failed`: every item has ended, and some failed.")
    created_at: float = Field(description="Unix seconds.")
    request_counts: RequestCounts
    submitted: bool = Field(description="Whether all of it is in, and it did not break off.")
    rate: float | None = Field(description="Items a second, of late; null while it cannot be told.")
    left_s: float | None = Field(description="Seconds that are left at this rate.")
    urls: BatchUrls

    @classmethod
    def of(cls, outer_id: str, noted: RequestMetadata, now: Progress) -> Self:
        """A batch under the id that its caller knows."""
        at = batch_url(outer_id)
        more = {name: f"{at}/{name}" for name in ("results", "errors", "events", "cancel")}
        return cls(
            id=outer_id,
            task=noted.task.short,
            status=now.state.value,  # type: ignore[arg-type]
            created_at=noted.created_at,
            request_counts=RequestCounts(
                total=now.total, completed=now.done - now.failed, failed=now.failed
            ),
            submitted=now.submitted and not now.cut,
            rate=None if now.rate is None else round(now.rate, 1),
            left_s=None if now.left_s is None else round(now.left_s, 1),
            urls=BatchUrls(get=at, **more),
        )

    @property
    def ended(self) -> bool:
        """Whether looking again would change nothing, unless it is asked again."""
        return _has_ended(self.status)


class RetriedBody(BaseModel):
    """What is asked again."""

    model_config = example(items=3)

    items: int


class ImageBody(BaseModel):
    """An image that was uploaded."""

    model_config = example(image=f"blob:{'0a' * 32}", bytes=48213, expires_in_s=3600)

    image: str = Field(description="What jobs and batches name it by.")
    bytes: int
    expires_in_s: int = Field(
        description="Seconds within which a job must name it; then it is kept as long as need be."
    )


class QueueBody(BaseModel):
    """How full one queue is."""

    open_items: int = Field(description="Items without a result.")
    max_items: int | None = Field(description="From here on it takes no more; null: any number.")


class QueuesBody(BaseModel):
    """How much is open, of all callers together."""

    model_config = example(
        queues={
            "interactive": {"open_items": 3, "max_items": 10000},
            "bulk": {"open_items": 19952, "max_items": 10000000},
        },
        running_jobs=16,
        blob_bytes=5242880,
        max_blob_bytes=4294967296,
    )

    queues: dict[str, QueueBody]
    running_jobs: int = Field(description="Jobs, each of one or more items, that workers hold.")
    blob_bytes: int = Field(description="Bytes of uploaded images that open jobs name.")
    max_blob_bytes: int | None = Field(description="From here on no more; null: any number.")

    @classmethod
    def of(cls, depth: Depth, settings: ClientSettings) -> Self:
        """From a look at the queues, and their bounds."""
        most = {
            Queue.INTERACTIVE: settings.max_queued_interactive,
            Queue.BULK: settings.max_queued_bulk,
        }
        return cls(
            queues={
                queue.value: QueueBody(open_items=items, max_items=most[queue] or None)
                for queue, items in depth.items.items()
            },
            running_jobs=depth.running_jobs,
            blob_bytes=depth.blob_bytes,
            max_blob_bytes=(settings.max_blob_mb << 20) or None,
        )


class ProblemBody(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    model_config = example(
        type="urn:blipline:error:option_invalid",
        title="The request is wrong",
        status=422,
        detail="image: is missing",
        code="option_invalid",
        request_id=_ID,
    )

    type: str = Field(description="`urn:blipline:error:<code>`")
    title: str
    status: int
    detail: str = Field(description="What is wrong here, and what to do.")
    code: str
    request_id: str = Field(description="Stands in the log, too.")
