"""Fields of each task in requests; each model has an example for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import ConfigDict, Field, model_validator

from ...contract import (
    CAPTIONS,
    MAX_TEXTS,
    MAX_TEXTS_CHARS,
    MAX_TURNS,
    THRESHOLD,
    Task,
)
from .job_options import JobOptions, StrictModel
from .request_fields import (
    EXAMPLE_IMAGE,
    Adapter,
    AnyText,
    CaptionCount,
    Deadline,
    DetailName,
    Image,
    Metadata,
    Probability,
    Prompts,
    Text,
    Webhook,
    example_config,
)

_DEFAULTS: Final = JobOptions.model_validate({})


class TurnBody(StrictModel):
    """An earlier question of a dialogue and its answer."""

    question: AnyText
    answer: AnyText


class TaskFields(StrictModel):
    """Fields of the requests of all tasks."""

    #: The task of the contract.
    contract_task: ClassVar[Task]

    deadline_s: Deadline = None
    webhook: Webhook = None
    metadata: Metadata = None

    def item(self) -> dict[str, Any]:
        """Return the item of the contract."""
        excluded = {"task", "deadline_s", "webhook", "metadata", "options"}
        return self.model_dump(exclude=excluded, exclude_none=True)

    def given_options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        options: JobOptions | None = getattr(self, "options", None)
        return {} if options is None else options.model_dump(exclude_defaults=True)

    def options_of(self, names: Collection[str]) -> dict[str, Any]:
        """Return the options of these names, also those that have their defaults."""
        options: JobOptions | None = getattr(self, "options", None)
        return {} if options is None else options.model_dump(include=set(names))


def streamed(fields: TaskFields) -> TaskFields:
    """Return the fields with the option `stream`, if the task has options."""
    options: JobOptions | None = getattr(fields, "options", None)
    if options is None:
        return fields
    return fields.model_copy(update={"options": options.model_copy(update={"stream": True})})


class CaptionFields(TaskFields):
    """Describe an image."""

    model_config = example_config(image=EXAMPLE_IMAGE, prompt="a red")

    contract_task = Task.CAPTION
    image: Image
    prompt: AnyText | None = Field(None, description="Beginning of the caption.")
    adapter: Adapter | None = None
    options: JobOptions = _DEFAULTS


class VqaFields(TaskFields):
    """Ask a question about an image."""

    model_config = example_config(
        image=EXAMPLE_IMAGE, question="what color is it?", options={"max_new_tokens": 5}
    )

    contract_task = Task.VQA
    image: Image
    question: Text
    answers: list[Text] | None = Field(
        None,
        min_length=1,
        max_length=MAX_TEXTS,
        description="A closed list of answers: the model ranks them, and the best is the output.",
    )
    adapter: Adapter | None = None
    options: JobOptions = _DEFAULTS


class ChatFields(TaskFields):
    """Ask a question in a dialogue about an image."""

    model_config = example_config(
        image=EXAMPLE_IMAGE,
        question="what color is it?",
        history=[{"question": "what shape is it?", "answer": "circle"}],
    )

    contract_task = Task.CHAT
    image: Image
    question: Text
    history: list[TurnBody] | None = Field(
        None,
        max_length=MAX_TURNS,
        description="Earlier turns, the oldest first; turns that exceed the model's context are "
        "dropped.",
    )
    adapter: Adapter | None = None
    options: JobOptions = _DEFAULTS


class TextsFields(TaskFields):
    """Compare an image with texts."""

    image: Image
    texts: list[Text] = Field(
        min_length=1,
        max_length=MAX_TEXTS,
        description=f"At most {MAX_TEXTS_CHARS:,} characters in total.",
    )

    @model_validator(mode="after")
    def _check_total(self) -> Self:
        chars = sum(map(len, self.texts))
        if chars > MAX_TEXTS_CHARS:
            raise ValueError(
                f"the texts have {chars:,} characters; at most {MAX_TEXTS_CHARS:,} are allowed"
            )
        return self


class MatchFields(TextsFields):
    """Compare an image with texts."""

    model_config = example_config(
        image=EXAMPLE_IMAGE,
        texts=["a red circle on a grey background", "a blue star on a pink background"],
    )

    contract_task = Task.MATCH


class CapfiltFields(TextsFields):
    """Keep those of the texts, and of synthetic captions, that match the image."""

    model_config = example_config(
        image=EXAMPLE_IMAGE, texts=["a red circle on a grey background", "my holiday"]
    )

    contract_task = Task.CAPFILT
    captions: CaptionCount = Field(CAPTIONS, description="Number of synthetic captions.")
    threshold: Probability = Field(
        THRESHOLD, description="Texts are accepted from this probability on."
    )
    synthetic_threshold: Probability | None = Field(
        None, description="Threshold of synthetic captions, if it differs."
    )
    adapter: Adapter | None = None
    options: JobOptions = _DEFAULTS


_BOTH_GIVEN: Final[dict[str, Any]] = {
    "required": ["image", "text"],
    "properties": {"image": {"type": "string"}, "text": {"type": "string"}},
}
_NONE_GIVEN: Final[dict[str, Any]] = {
    "properties": {"image": {"type": "null"}, "text": {"type": "null"}}
}


class EmbedFields(TaskFields):
    """Compute the unit vector of an image or of a text: exactly one of them is needed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "a cat on a sofa"}],
            # Generators of clients would turn a `oneOf` into two types without the other fields.
            "not": {"anyOf": [_BOTH_GIVEN, _NONE_GIVEN]},
        }
    )

    contract_task = Task.EMBED
    image: Image | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("an embedding needs an image or a text: pass one of them")
        return self


class DescribeFields(TaskFields):
    """Describe an image in detail."""

    model_config = example_config(image=EXAMPLE_IMAGE, detail="high")

    contract_task = Task.DESCRIBE
    image: Image
    prompts: Prompts | None = Field(
        None, description="Prompts of the first round; an empty one is a caption without a prompt."
    )
    detail: DetailName = Field("medium", description="One, two or three rounds.")
    adapter: Adapter | None = None
    options: JobOptions = _DEFAULTS


#: Models of the fields by their task.
TASK_MODELS: Final[Mapping[Task, type[TaskFields]]] = {
    model.contract_task: model
    for model in (
        CaptionFields,
        VqaFields,
        ChatFields,
        MatchFields,
        EmbedFields,
        DescribeFields,
        CapfiltFields,
    )
}
