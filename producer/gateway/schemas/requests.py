"""Request models of jobs: the fields of each task, and `task`, which discriminates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from .task_fields import (
    CapfiltFields,
    CaptionFields,
    ChatFields,
    DescribeFields,
    EmbedFields,
    MatchFields,
    TaskFields,
    VqaFields,
)


def _config_of(model: type[TaskFields]) -> ConfigDict:
    """Return the configuration of a task's fields, with `task` in its example."""
    extra: Any = model.model_config["json_schema_extra"]
    examples: Any = [{"task": model.contract_task.short, **extra["examples"][0]}]
    return ConfigDict(json_schema_extra={**extra, "examples": examples})


class CaptionRequest(CaptionFields):
    """Describe an image."""

    model_config = _config_of(CaptionFields)
    task: Literal["caption"]


class VqaRequest(VqaFields):
    """Ask a question about an image."""

    model_config = _config_of(VqaFields)
    task: Literal["vqa"]


class ChatRequest(ChatFields):
    """Ask a question in a dialogue about an image."""

    model_config = _config_of(ChatFields)
    task: Literal["chat"]


class MatchRequest(MatchFields):
    """Compare an image with texts."""

    model_config = _config_of(MatchFields)
    task: Literal["match"]


class EmbedRequest(EmbedFields):
    """Compute the unit vector of an image or of a text: exactly one of them is needed."""

    model_config = _config_of(EmbedFields)
    task: Literal["embed"]


class DescribeRequest(DescribeFields):
    """Describe an image in detail."""

    model_config = _config_of(DescribeFields)
    task: Literal["describe"]


class CapfiltRequest(CapfiltFields):
    """Keep those of the texts, and of synthetic captions, that match the image."""

    model_config = _config_of(CapfiltFields)
    task: Literal["capfilt"]


#: Request models by the name of their task.
REQUEST_MODELS: Final[Mapping[str, type[TaskFields]]] = {
    "caption": CaptionRequest,
    "vqa": VqaRequest,
    "chat": ChatRequest,
    "match": MatchRequest,
    "embed": EmbedRequest,
    "describe": DescribeRequest,
    "capfilt": CapfiltRequest,
}

JobRequest = Annotated[
    CaptionRequest
    | VqaRequest
    | ChatRequest
    | MatchRequest
    | EmbedRequest
    | DescribeRequest
    | CapfiltRequest,
    Field(discriminator="task"),
]
