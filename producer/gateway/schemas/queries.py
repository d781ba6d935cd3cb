"""Query parameters of the batch routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from ...contract import MAX_KEEP_S, RESULT_TTL_S, Task
from ...ledger.account_index import CURSOR
from ..access.tenants import PUBLIC_ID
from ..http.problems import Problem
from .job_options import LineOptions
from .job_responses import JobStatus
from .list_filter import ListFilter
from .request_fields import MAX_NAME_CHARS, MAX_PAIRS, MAX_VALUE_CHARS, Deadline, TaskName, Webhook
from .responses import BatchStatus

_PAIRS: Final = "Key-value pairs, each as `name=value`,"


#: A pair as a text; a name that occurs twice has its last value.
_PAIR: Final = rf"^[^=]{{1,{MAX_NAME_CHARS}}}=(?s:.){{0,{MAX_VALUE_CHARS}}}$"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _pairs(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, _, value in (text.partition("=") for text in texts))


PairTexts = Annotated[
    list[Annotated[str, Field(pattern=_PAIR)]],
    Field(max_length=MAX_PAIRS),
    BeforeValidator(_as_list),
]


class BatchQuery(LineOptions):
    """Parameters of a batch upload, including the generation options."""

    model_config = ConfigDict(strict=False, extra="forbid", hide_input_in_errors=True)

    task: TaskName = Field("caption", description="Task of items that do not name one.")
    id: str | None = Field(
        None,
        pattern=f"^{PUBLIC_ID}$",
        description="An id that you choose: an interrupted upload can be repeated under it and "
        "continues after the last submitted item.",
    )
    keep_s: int = Field(
        RESULT_TTL_S, ge=1, le=MAX_KEEP_S, description="Seconds that results are stored."
    )
    deadline_s: Deadline = None
    webhook: Webhook = None
    metadata: PairTexts = Field([], description=f"{_PAIRS} that the batch returns.")
    unique_custom_ids: bool = Field(
        False, description="A `custom_id` that occurs twice is an error of its line."
    )

    def metadata_pairs(self) -> dict[str, str]:
        """Return the key-value pairs of the client."""
        return dict(_pairs(self.metadata))

    def with_form_fields(self, fields: dict[str, str]) -> Self:
        """Return these parameters with a form's; raises RequestValidationError or Problem."""
        given = self.model_dump(exclude_unset=True)
        for name in fields:
            if name in given:
                detail = f"{name}: both the query and the form contain this parameter"
                raise Problem("option_invalid", detail)
        try:
            return self.model_validate(given | fields)
        except ValidationError as error:
            errors = [{**detail, "loc": ("form", *detail["loc"])} for detail in error.errors()]
            raise RequestValidationError(errors) from None

    def with_key_id(self, key_id: str | None) -> Self:
        """Return these parameters with the id of an `Idempotency-Key`, unless they have an id."""
        return self.model_copy(update={"id": self.id or key_id})

    def submit_options(self) -> dict[str, Any]:
        """Return the arguments of `submit_batch` that the client determines."""
        always = {"keep_s", "deadline_s"}
        excluded = {"task", "id", "webhook", "metadata", "unique_custom_ids", *always}
        return {
            **self.model_dump(include=always),
            **self.model_dump(exclude=excluded, exclude_defaults=True),
            "webhook": self.webhook or "",
        }


class StrictQuery(BaseModel):
    """Query parameters without unknown names."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class DeleteQuery(StrictQuery):
    """Parameters of the deletion of a job."""

    erase: bool = Field(False, description="Erase the job; otherwise it is cancelled.")


class ListQuery(StrictQuery):
    """Parameters of the lists."""

    task: TaskName | None = Field(None, description="Only of this task.")
    since: float | None = Field(
        None,
        ge=0,
        le=2**40,
        allow_inf_nan=False,
        description="Submitted at or after, Unix seconds.",
    )
    until: float | None = Field(
        None, ge=0, le=2**40, allow_inf_nan=False, description="Submitted at or before."
    )
    metadata: PairTexts = Field([], description=f"{_PAIRS} all of which the metadata contains.")
    limit: int = Field(20, ge=1, le=100, description="Maximum length of the page.")
    cursor: str | None = Field(
        None, pattern=CURSOR, max_length=100, description="`next_cursor` of the page before."
    )

    def filter(self, status: str | None) -> ListFilter:
        """Return the selection."""
        return ListFilter(
            status,
            None if self.task is None else Task.parse(self.task),
            self.since,
            self.until,
            _pairs(self.metadata),
        )


class JobsQuery(ListQuery):
    """Parameters of the list of jobs."""

    status: JobStatus | None = Field(None, description="Only of this status.")
    id: list[Annotated[str, Field(pattern=f"^{PUBLIC_ID}$")]] = Field(
        [], max_length=100, description="Only these jobs, in this order; `limit` has no effect."
    )


class BatchesQuery(ListQuery):
    """Parameters of the list of batches."""

    status: BatchStatus | None = Field(None, description="Only of this status.")


class ErrorsQuery(StrictQuery):
    """Parameters of the errors of a batch."""

    cursor: int = Field(0, ge=0, le=2**53, description="Continue after the line with this cursor.")
    limit: int | None = Field(None, ge=1, le=2**53, description="Maximum number of lines.")
    wait: bool = Field(False, description="Stream lines until the end of the batch.")


class ResultsQuery(ErrorsQuery):
    """Parameters of the results of a batch."""

    order: Literal["submitted", "completed"] = Field(
        "submitted",
        description="Order of the items, or order of completion; a cursor is valid for one order.",
    )


class EventsQuery(StrictQuery):
    """Parameters of the events of a batch."""

    cursor: int = Field(
        0,
        ge=0,
        le=2**53,
        description="Continue after the result with this cursor; Last-Event-ID takes precedence.",
    )
    results: bool = Field(True, description="False omits `result` events.")
    token: str | None = Field(
        None,
        max_length=400,
        description="A token of `POST /v1/batches/{id}/token`, instead of the API key.",
    )


class TokenQuery(StrictQuery):
    """Parameters of a token."""

    ttl_s: int = Field(600, ge=1, le=86_400, description="Seconds until the token expires.")
