"""Generation options in requests, and the strictness of the models of requests."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, field_validator

from ...contract import Options, whole_number


class StrictModel(BaseModel):
    """A part of a request, without type conversion and unknown fields."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class JobOptions(Options):
    """Generation options; decoding is greedy unless `temperature` is set."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    #: Not an option of a request, which has `deadline_s` instead.
    deadline: ClassVar[None] = None  # type: ignore[misc]

    @field_validator("*", mode="before")
    @classmethod
    def _accept_whole_floats(cls, value: Any) -> Any:
        return list(map(whole_number, value)) if isinstance(value, list) else whole_number(value)


class LineOptions(JobOptions):
    """Generation options of a batch, or of one of its lines: texts are not published."""

    stream: ClassVar[None] = None  # type: ignore[misc]
