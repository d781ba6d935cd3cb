"""Responses about single jobs: a union of models that the task discriminates."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, RootModel

from ...contract import RESULT_TTL_S, State, Task
from ...results.result import JobProgress
from .job_outputs import (
    CapfiltOutput,
    DescribeOutput,
    EmbedOutput,
    MatchOutput,
    SequencesOutput,
    TextOutput,
)
from .metadata import RequestMetadata
from .request_fields import example_config

#: Status of a job.
JobStatus = Literal["queued", "running", "done", "failed", "cancelled", "expired"]

#: Id of the examples.
_ID: Final = "01999f7e-0000-7000-8000-000000000000"


class ErrorBody(BaseModel):
    """Error of a job or of an item, with a code of the contract."""

    code: str
    message: str


class JobUrls(BaseModel):
    """URLs of a job."""

    get: str
    cancel: str = Field(description="Cancel with DELETE.")


class JobFields(BaseModel):
    """Fields of the jobs of all tasks; each task has an `output` of its own."""

    id: str
    object: Literal["job"]
    task: str
    status: JobStatus = Field(
        description="`expired`: the job has ended and its result is no longer stored."
    )
    created_at: float = Field(description="Unix seconds.")
    started_at: float | None = Field(
        description="Unix seconds at which a worker started the job, the last one if several did."
    )
    ended_at: float | None = Field(description="Unix seconds.")
    expires_at: float | None = Field(
        description="Unix seconds until which the output is stored, once the job has ended."
    )
    metadata: dict[str, str] = Field(description="Key-value pairs of the submission.")
    error: ErrorBody | None = Field(description="Error of a failed job.")
    urls: JobUrls

    @staticmethod
    def of(public_id: str, metadata: RequestMetadata, progress: JobProgress) -> JobFields:
        """Return a job under its public id."""
        state, result, _ = progress
        # A job with metadata has existed, so an unknown one has expired.
        status = State.EXPIRED if state is State.UNKNOWN else state
        url = job_url(public_id)
        fields: dict[str, Any] = {} if result is None else result.output()
        error = fields.pop("error", None)
        if "text" in fields:
            fields["text"] = fields["text"] or ""
        model = _MODELS.get(metadata.task, TextJob)
        return model(
            id=public_id,
            object="job",
            task=metadata.task.short,
            status=status.value,  # type: ignore[arg-type]
            created_at=metadata.created_at,
            **_times(progress),
            metadata=dict(metadata.pairs),
            output=fields or None,
            error=error,
            urls=JobUrls(get=url, cancel=url),
        )

    @property
    def ended(self) -> bool:
        """True if the status is final."""
        return self.status not in ("queued", "running")


def _times(progress: JobProgress) -> dict[str, float | None]:
    """Return the times of a job, in milliseconds precision; null for a result of an old worker."""
    _, result, started_at = progress
    ended_at = None if result is None else result.ended_at
    return {
        "started_at": None if started_at is None else round(started_at, 3),
        "ended_at": None if ended_at is None else round(ended_at, 3),
        "expires_at": None if ended_at is None else round(ended_at + RESULT_TTL_S, 3),
    }


class TextJob(JobFields):
    """Status and text of a caption, vqa or chat job."""

    task: Literal["caption", "vqa", "chat"]
    output: TextOutput | SequencesOutput | None


class MatchJob(JobFields):
    """Status and scores of a match job."""

    task: Literal["match"]
    output: MatchOutput | None


class EmbedJob(JobFields):
    """Status and vector of an embed job."""

    task: Literal["embed"]
    output: EmbedOutput | None


class DescribeJob(JobFields):
    """Status and text of a describe job."""

    task: Literal["describe"]
    output: DescribeOutput | None


class CapfiltJob(JobFields):
    """Status and texts of a capfilt job."""

    task: Literal["capfilt"]
    output: CapfiltOutput | None


_MODELS: Final[dict[Task, type[JobFields]]] = {
    Task.MATCH: MatchJob,
    Task.EMBED: EmbedJob,
    Task.DESCRIBE: DescribeJob,
    Task.CAPFILT: CapfiltJob,
}
_AnyJob = Annotated[
    TextJob | MatchJob | EmbedJob | DescribeJob | CapfiltJob, Field(discriminator="task")
]


class JobBody(RootModel[_AnyJob]):
    """Status and output of a job; its task determines the output."""

    model_config = example_config(
        id=_ID,
        object="job",
        task="vqa",
        status="done",
        created_at=1795000000.123,
        started_at=1795000000.456,
        ended_at=1795000000.789,
        expires_at=1795086400.789,
        metadata={"project": "cats"},
        output={"text": "black"},
        error=None,
        urls={"get": f"/v1/jobs/{_ID}", "cancel": f"/v1/jobs/{_ID}"},
    )


def job_url(public_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{public_id}"
