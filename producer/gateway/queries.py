"""Query parameters of the batch routes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..contract import MAX_KEEP_S, RESULT_TTL_S
from .problems import Problem
from .request_fields import Deadline, TaskName, Webhook
from .task_fields import JobOptions
from .tenants import PUBLIC_ID


class BatchQuery(JobOptions):
    """Parameters of a batch upload, including the generation options."""

    model_config = ConfigDict(strict=False, extra="forbid", hide_input_in_errors=True)

    #: The texts of a batch are not published.
    stream: ClassVar[None] = None  # type: ignore[misc]

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

    def submit_options(self) -> dict[str, Any]:
        """Return the arguments of `submit_batch` that the client determines."""
        always = {"keep_s", "deadline_s"}
        excluded = {"task", "id", "webhook", *always}
        return {
            **self.model_dump(include=always),
            **self.model_dump(exclude=excluded, exclude_defaults=True),
            "webhook": self.webhook or "",
        }


class StrictQuery(BaseModel):
    """Query parameters without unknown names."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


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
