"""What a job may ask; every model has an example, which the OpenAPI shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from ..contract import (
    MAX_DEADLINE_S,
    MAX_TEXT_CHARS,
    MAX_TEXTS,
    MAX_TEXTS_CHARS,
    MAX_TURNS,
    Options,
    Task,
)

#: Characters of a webhook's URL at most.
MAX_WEBHOOK_CHARS: Final = 2048


def check_webhook(url: str) -> str:
    """Whether webhooks can be sent there at all; where the host leads is checked at each sending.

    Raises ValueError.
    """
    remedy = "must be http://host/… or https://host/… in ASCII, without a user or a password"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(remedy)
    parts = urlsplit(url)
    # What is no port raises ValueError, too.
    right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not right or "@" in parts.netloc:
        raise ValueError(remedy)
    return url


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: say something about the image")
    return text


_WebhookUrl = Annotated[
    str,
    Field(max_length=MAX_WEBHOOK_CHARS, json_schema_extra={"format": "uri"}),
    AfterValidator(check_webhook),
]
Webhook = Annotated[
    _WebhookUrl | None,
    Field(description="URL that is told when it has ended, by a signed POST."),
]
Deadline = Annotated[
    float | None,
    Field(
        gt=0,
        le=MAX_DEADLINE_S,
        description="Seconds after which nobody wants what has no answer by then.",
    ),
]
#: Something that is said or asked.
Text = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEXT_CHARS, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_not_blank),
]
AnyText = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Image = Annotated[
    str,
    Field(
        min_length=1,
        json_schema_extra={"format": "image-reference"},
        description="`https://…`, `blob:<sha256>` (the answer of `POST /v1/images`), "
        "`data:image/png;base64,…`, `file:<path>` below the worker's image root, or `s3://…` and "
        "the like where the worker has them. Never a path.",
    ),
]


def example(**fields: Any) -> ConfigDict:
    """The example of a model, which the OpenAPI shows."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


#: Of the examples.
_IMAGE: Final = "https://images.example.com/cat.jpg"


class _Strict(BaseModel):
    """Part of a request: nothing is guessed, and nothing is passed over."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class JobOptions(Options):
    """How to generate; greedy unless `temperature` is set."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    #: A job has `deadline_s`.
    deadline: ClassVar[None] = None  # type: ignore[misc]

    @field_validator("*", mode="before")
    @classmethod
    def _read_whole(cls, value: Any) -> Any:
        # In JSON 5.0 is an integer, too.
        return int(value) if isinstance(value, float) and value.is_integer() else value


_DEFAULTS: Final = JobOptions.model_validate({})


class TurnBody(_Strict):
    """A question that was asked before, and what was answered."""

    question: AnyText
    answer: AnyText


class JobRequestBase(_Strict):
    """What every task has."""

    task: str
    deadline_s: Deadline = None
    webhook: Webhook = None

    @property
    def contract_task(self) -> Task:
        """The task as the contract names it."""
        return Task.parse(self.task)

    def item(self) -> dict[str, Any]:
        """What is asked, as the contract has it."""
        aside = {"task", "deadline_s", "webhook", "options"}
        return self.model_dump(exclude=aside, exclude_none=True)

    def given_options(self) -> dict[str, Any]:
        """Those that are not at their defaults."""
        options: JobOptions | None = getattr(self, "options", None)
        return {} if options is None else options.model_dump(exclude_defaults=True)


class CaptionRequest(JobRequestBase):
    """Describe an image."""

    model_config = example(task="caption", image=_IMAGE, prompt="a photo of")

    task: Literal["caption"]
    image: Image
    prompt: AnyText | None = Field(None, description="How the caption begins.")
    options: JobOptions = _DEFAULTS


class VqaRequest(JobRequestBase):
    """Ask a question about an image."""

    model_config = example(
        task="vqa", image=_IMAGE, question="what color is it?", options={"max_new_tokens": 5}
    )

    task: Literal["vqa"]
    image: Image
    question: Text
    options: JobOptions = _DEFAULTS


class ChatRequest(JobRequestBase):
    """Ask on in a dialogue."""

    model_config = example(
        task="chat",
        image=_IMAGE,
        question="what color is it?",
        history=[{"question": "what is on the sofa?", "answer": "a cat"}],
    )

    task: Literal["chat"]
    image: Image
    question: Text
    history: list[TurnBody] | None = Field(
        None,
        max_length=MAX_TURNS,
        description="What was said before, oldest first. What is too long for the model is cut.",
    )
    options: JobOptions = _DEFAULTS


class MatchRequest(JobRequestBase):
    """Compare an image with texts."""

    model_config = example(task="match", image=_IMAGE, texts=["a cat", "a dog"])

    task: Literal["match"]
    image: Image
    texts: list[Text] = Field(
        min_length=1,
        max_length=MAX_TEXTS,
        description=f"They may have {MAX_TEXTS_CHARS:,} characters together.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        together = sum(map(len, self.texts))
        if together > MAX_TEXTS_CHARS:
            raise ValueError(
                f"the texts have {together:,} characters; at most {MAX_TEXTS_CHARS:,} are read"
            )
        return self


class EmbedRequest(JobRequestBase):
    """The unit vector of an image or of a text: give one of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"task": "embed", "text": "a cat on a sofa"}],
            "oneOf": [
                {
                    "required": ["image"],
                    "properties": {"image": {"type": "string"}, "text": {"type": "null"}},
                },
                {
                    "required": ["text"],
                    "properties": {"text": {"type": "string"}, "image": {"type": "null"}},
                },
            ],
        }
    )

    task: Literal["embed"]
    image: Image | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("an embedding is of an image or of a text: give one of them")
        return self


#: By the name of the task.
KINDS: Final[Mapping[str, type[JobRequestBase]]] = {
    "caption": CaptionRequest,
    "vqa": VqaRequest,
    "chat": ChatRequest,
    "match": MatchRequest,
    "embed": EmbedRequest,
}

JobRequest = Annotated[
    CaptionRequest | VqaRequest | ChatRequest | MatchRequest | EmbedRequest,
    Field(discriminator="task"),
]
