"""Responses of the lists of jobs and batches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .job_responses import JobBody
from .request_fields import example_config
from .responses import BatchBody


def _example_of(model: type[BaseModel]) -> ConfigDict:
    """Return the configuration of a list with the example of an element."""
    extra: Any = model.model_config["json_schema_extra"]
    return example_config(
        object="list",
        data=extra["examples"],
        has_more=True,
        next_cursor="1795000000.123456-photo-7",
    )


class ListBody(BaseModel):
    """Page of a list, the newest first."""

    object: Literal["list"]
    has_more: bool
    next_cursor: str | None = Field(description="Parameter `cursor` of the next page.")


class JobListBody(ListBody):
    """Page of a list of jobs, the newest first."""

    model_config = _example_of(JobBody)

    data: list[JobBody]


class BatchListBody(ListBody):
    """Page of a list of batches, the newest first."""

    model_config = _example_of(BatchBody)

    data: list[BatchBody]
