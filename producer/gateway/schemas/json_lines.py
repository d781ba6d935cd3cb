"""JSON lines of batches: media types, and models of the lines for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, Field
from starlette.datastructures import Headers

from ...contract import MAX_CUSTOM_ID_CHARS, Ranking
from .job_options import LineOptions, StrictModel
from .job_outputs import CandidateAnswer, MatchAnswer, ScoredAnswer, SequenceAnswer
from .job_responses import ErrorBody
from .request_fields import (
    Adapter,
    AnyText,
    CaptionCount,
    DetailName,
    Image,
    Probability,
    Prompts,
    TaskName,
    Text,
)
from .task_fields import TurnBody

#: Media types of results; the first unless the request accepts only another one. Some generated
#: clients parse any type that begins with application/json as one value.
RESULT_TYPES: Final = ("application/x-ndjson", "application/jsonl", "application/octet-stream")

#: Schema of lines: clients must not parse them as a whole.
LINES_SCHEMA: Final[Mapping[str, Any]] = {"type": "string", "format": "binary"}


class BatchLine(StrictModel):
    """One line of an upload: the fields of its task."""

    custom_id: str | None = Field(
        None, max_length=MAX_CUSTOM_ID_CHARS, description="Returned with the result."
    )
    task: TaskName | None = Field(None, description="If it differs from the task of the batch.")
    image: Image | None = None
    prompt: AnyText | None = None
    question: Text | None = None
    answers: list[Text] | None = None
    history: list[TurnBody] | None = None
    texts: list[Text] | None = None
    text: Text | None = None
    prompts: Prompts | None = None
    detail: DetailName | None = None
    captions: CaptionCount | None = None
    threshold: Probability | None = None
    synthetic_threshold: Probability | None = None
    options: LineOptions | None = Field(None, description="They replace those of the batch.")
    adapter: Adapter | None = None


class ResultLine(BaseModel):
    """One line of the results: the output of its task, or an error."""

    custom_id: str | None
    status: Literal["ok", "error"]
    index: int = Field(description="Position of the item in the batch, from 0.")
    cursor: int = Field(description="Continue after this line with `cursor=`.")
    text: str | None = Field(
        None,
        description="Caption, vqa, chat, describe; match, capfilt: the likeliest (accepted) text.",
    )
    sequences: list[SequenceAnswer] | None = Field(
        None,
        description="With `num_return_sequences` or `output_scores`: all texts; ranked `answers`.",
    )
    prompt_tokens: int | None = Field(None, description="With `output_scores`.")
    matches: list[MatchAnswer] | None = Field(None, description="Match.")
    embedding: list[float] | None = Field(None, description="Embed.")
    characters: int | None = Field(None, description="Describe, as the fields below.")
    words: int | None = None
    candidates: list[CandidateAnswer] | None = None
    rounds: int | None = None
    seconds: float | None = None
    ranked_by: Ranking | None = None
    unpolished: str | None = None
    warning: str | None = None
    accepted: list[ScoredAnswer] | None = Field(None, description="Capfilt, as the field below.")
    rejected: list[ScoredAnswer] | None = None
    error: ErrorBody | None = Field(None, description="With the status `error`.")


#: Models of lines, which no operation of the description refers to.
LINE_MODELS: Final = (BatchLine, ResultLine)


def result_type(headers: Headers) -> str:
    """Return the media type of results that the request accepts."""
    accepted = headers.get("accept", "")
    return next((kind for kind in RESULT_TYPES if kind in accepted), RESULT_TYPES[0])
