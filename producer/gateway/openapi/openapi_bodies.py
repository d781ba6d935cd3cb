"""Request bodies of the OpenAPI description; FastAPI derives none, as it parses no body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..images.uploads import JSON_LINES_TYPES
from ..schemas.json_lines import LINES_SCHEMA
from ..schemas.request_fields import EXAMPLE_IMAGE, example_of
from ..schemas.requests import REQUEST_MODELS
from .openapi import REF

EXAMPLE_LINES: Final = (
    f'{{"custom_id": "1", "image": "{EXAMPLE_IMAGE}"}}\n'
    f'{{"custom_id": "2", "image": "{EXAMPLE_IMAGE}", "task": "vqa", '
    '"question": "what color is it?"}\n'
)

#: Schema of the bytes of an image.
BINARY: Final[Mapping[str, Any]] = {"type": "string", "format": "binary", "minLength": 1}


def job_body() -> dict[str, Any]:
    """Return the `requestBody` of a job, whose schema depends on the task."""
    refs = {task: REF.format(model=model.__name__) for task, model in REQUEST_MODELS.items()}
    examples = {
        task: {"summary": model.__doc__, "value": example_of(model)}
        for task, model in REQUEST_MODELS.items()
    }
    schema = {
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "task", "mapping": refs},
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"required": True, "content": content}


def batch_body() -> dict[str, Any]:
    """Return the `requestBody` of a batch: a line of JSON for each item."""
    lines = {"schema": {**LINES_SCHEMA, "minLength": 1}, "example": EXAMPLE_LINES}
    content: dict[str, Any] = dict.fromkeys(JSON_LINES_TYPES, lines)
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "jsonl", "minLength": 1}},
        "additionalProperties": False,
    }
    content["multipart/form-data"] = {"schema": form, "example": {"file": EXAMPLE_LINES}}
    return {
        "required": True,
        "description": "A line of JSON, a `BatchLine`, for each item (docs/tasks.md), optionally "
        "as gzip (`Content-Encoding: gzip`, or a .gz file). In a form, the part `file` contains "
        "them and is the last part; parts before it may contain the query parameters.",
        "content": content,
    }


def image_body() -> dict[str, Any]:
    """Return the `requestBody` of an image: its bytes."""
    form = {"type": "object", "required": ["file"], "properties": {"file": BINARY}}
    return {
        "required": True,
        "description": "The bytes of an image file, of any type `image/…`.",
        "content": {**image_types(), "multipart/form-data": {"schema": form}},
    }


def image_types() -> dict[str, Any]:
    """Return the `content` of a body that is an image."""
    types = ("image/jpeg", "image/png", "application/octet-stream")
    return {kind: {"schema": BINARY} for kind in types}
