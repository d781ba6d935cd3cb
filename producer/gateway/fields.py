"""What several requests say in the same way."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field

from ..contract import MAX_DEADLINE_S, MAX_TEXT_CHARS

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
