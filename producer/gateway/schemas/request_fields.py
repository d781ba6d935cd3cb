"""Types of the fields of requests, and examples for the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ...contract import (
    MAX_ADAPTER_CHARS,
    MAX_CAPTIONS,
    MAX_DEADLINE_S,
    MAX_PROMPTS,
    MAX_TEXT_CHARS,
    whole_number,
)

#: Image of the examples, which can be run on any gateway: a red circle on a grey background.
EXAMPLE_IMAGE: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEWAgID/AABZ8J9TAAAAck"
    "lEQVR42s3QsQ3CMBSE4c/PSKRkBDYhbO4RGCEjuIwQiilMCgsKyvzV6e6e9HQcj3P9iNuGjCWlIkjMvdJaJZiYiP00uHAi"
    "uBJjNJNGp5MpSOU7+kdkzNx/dwptdBY2gsprjFZWgicPgtZ/29cY9jkAb7FqFwcNkzldAAAAAElFTkSuQmCC"
)
#: Maximum characters of a webhook URL.
MAX_WEBHOOK_CHARS: Final = 2048


def check_webhook_url(url: str) -> str:
    """Check that a URL can receive webhooks; return it. Raises ValueError.

    WebhookGuard checks its address, and the sender checks it again for each request.
    """
    rule = "must be http://host/… or https://host/… in ASCII, without a user or a password"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(rule)
    parts = urlsplit(url)
    # `port` itself raises ValueError if it is not a number.
    is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not is_http or "@" in parts.netloc:
        raise ValueError(rule)
    return url


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: send a text about the image")
    return text


_WebhookUrl = Annotated[
    str,
    Field(max_length=MAX_WEBHOOK_CHARS, json_schema_extra={"format": "uri"}),
    AfterValidator(check_webhook_url),
]
Webhook = Annotated[
    _WebhookUrl | None,
    Field(description="URL that receives a signed POST when the job or batch has ended."),
]
Deadline = Annotated[
    float | None,
    Field(
        gt=0,
        le=MAX_DEADLINE_S,
        description="Seconds after which items without a result fail.",
    ),
]
#: Limits of `metadata`: pairs, and characters of a name and of a value.
MAX_PAIRS, MAX_NAME_CHARS, MAX_VALUE_CHARS = 16, 64, 512


_Pairs = dict[
    Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)],
    Annotated[str, Field(max_length=MAX_VALUE_CHARS)],
]
Metadata = Annotated[
    Annotated[_Pairs, Field(max_length=MAX_PAIRS)] | None,
    Field(
        description="Key-value pairs that the job returns, and by which lists are filtered: at "
        f"most {MAX_PAIRS}, names of {MAX_NAME_CHARS} and values of {MAX_VALUE_CHARS} characters."
    ),
]
#: Short name of a task.
TaskName = Literal["caption", "vqa", "chat", "match", "embed", "describe", "capfilt"]
#: A text that must not be blank.
Text = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEXT_CHARS, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_not_blank),
]
AnyText = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Prompts = Annotated[list[AnyText], Field(min_length=1, max_length=MAX_PROMPTS)]
#: Level of detail of a description.
DetailName = Literal["low", "medium", "high"]
CaptionCount = Annotated[int, Field(ge=0, le=MAX_CAPTIONS), BeforeValidator(whole_number)]
Adapter = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_ADAPTER_CHARS,
        description="The adapter of the worker's model that answers (`BLIPLINE_ADAPTERS`).",
    ),
]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Image = Annotated[
    str,
    Field(
        min_length=1,
        json_schema_extra={"format": "image-reference"},
        description="`https://…`, `blob:<sha256>` (as returned by `POST /v1/images`), "
        "`data:image/png;base64,…`, the image file in base64, `file:<path>` below the worker's "
        "image root, or a scheme of the worker's stores such as `s3://…`. Never a path.",
    ),
]


def example_config(**fields: Any) -> ConfigDict:
    """Return the configuration of a model with an example for the OpenAPI description."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the example of a model's configuration, without building the model's JSON Schema."""
    extra: Any = model.model_config["json_schema_extra"]
    example: dict[str, Any] = extra["examples"][0]
    return example
