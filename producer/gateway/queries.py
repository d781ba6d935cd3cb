"""What the address of a request on batches says."""

from __future__ import annotations

from typing import Any, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..contract import MAX_KEEP_S, RESULT_TTL_S
from .problems import Problem
from .requests import Deadline, JobOptions, Webhook
from .tenants import PUBLIC_ID


class BatchTerms(JobOptions):
    """What holds for all items of a batch; the options of generation stand beside the rest."""

    model_config = ConfigDict(strict=False, extra="forbid", hide_input_in_errors=True)

    task: Literal["caption", "vqa", "chat", "match", "embed"] = Field(
        "caption", description="What is asked of items that do not say it themselves."
    )
    id: str | None = Field(
        None,
        pattern=f"^{PUBLIC_ID}$",
        description="An id of your own: the same upload can be repeated, and goes on where one "
        "broke off.",
    )
    keep_s: int = Field(
        RESULT_TTL_S, ge=1, le=MAX_KEEP_S, description="Seconds that results are kept."
    )
    deadline_s: Deadline = None
    webhook: Webhook = None

    def with_fields(self, fields: dict[str, str]) -> Self:
        """These and what a form says; raises RequestValidationError or Problem."""
        given = self.model_dump(exclude_unset=True)
        for name in fields:
            if name in given:
                raise Problem("option_invalid", f"{name}: the address and the form both say it")
        try:
            return self.model_validate(given | fields)
        except ValidationError as error:
            problems = [{**one, "loc": ("form", *one["loc"])} for one in error.errors()]
            raise RequestValidationError(problems) from None

    def submission(self) -> dict[str, Any]:
        """As `submit_batch` takes them, but for what only the gateway knows."""
        aside = {"task", "id", "webhook"}
        said = {"keep_s", "deadline_s"}
        return {
            **self.model_dump(include=said),
            **self.model_dump(exclude=aside | said, exclude_defaults=True),
            "webhook": self.webhook or "",
        }


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ErrorsQuery(_Query):
    """Which failures are wanted."""

    cursor: int = Field(0, ge=0, le=2**53, description="Go on after the line that has it.")
    limit: int | None = Field(None, ge=1, le=2**53, description="Lines at most.")
    wait: bool = Field(False, description="Wait for those that are not in yet, to the end.")


class ResultsQuery(ErrorsQuery):
    """Which results are wanted."""

    order: Literal["submitted", "completed"] = Field(
        "submitted",
        description="In the order of the items, or in that in which they end; a cursor belongs to "
        "one of them.",
    )


class EventsQuery(_Query):
    """Which events are wanted."""

    cursor: int = Field(
        0,
        ge=0,
        le=2**53,
        description="Go on after the result that has it; Last-Event-ID counts more.",
    )
    results: bool = Field(True, description="Whether results come, or progress alone.")
