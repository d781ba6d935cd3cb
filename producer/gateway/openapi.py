"""What `/openapi.json` says beyond what FastAPI finds in the routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from . import request_body
from .auth import is_guarded
from .problems import EXAMPLES, MEDIA_TYPE, STATUS
from .requests import KINDS
from .responses import BatchBody, ImageBody, JobBody, ProblemBody, QueuesBody
from .uploads import LINES

_REF: Final = "#/components/schemas/{model}"

#: What every route that needs a key may answer.
_GUARDED: Final = (401, 429, 500, 503)
#: What every route that reads a body may answer.
_READING: Final = (400, 408, 413, 415)

_HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-Id": {
        "description": "Of this request; stands in the log, too.",
        "schema": {"type": "string"},
        "example": "01999f7e-0000-7000-8000-000000000000",
    },
    "RateLimit": {
        "description": "Requests that are left to this key, and seconds until there are more.",
        "schema": {"type": "string"},
        "example": '"minute";r=599;t=60',
    },
    "Location": {
        "description": "Where it is found.",
        "schema": {"type": "string"},
        "example": "/v1/jobs/01999f7e-0000-7000-8000-000000000000",
    },
    "Retry-After": {
        "description": "Seconds after which it is worth asking again.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 5,
    },
    "Preference-Applied": {
        "description": "How long was waited at most.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "WWW-Authenticate": {"schema": {"type": "string"}, "example": "Bearer"},
}
_OF_STATUS: Final[Mapping[str, tuple[str, ...]]] = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}

_LINES: Final = (
    '{"custom_id": "1", "image": "https://images.example.com/cat.jpg"}\n'
    '{"custom_id": "2", "image": "https://images.example.com/dog.jpg", "task": "vqa", '
    '"question": "what color is it?"}\n'
)

_SCHEMA_OF_LINES: Final = {"type": "string", "format": "jsonl", "minLength": 1}

_EXAMPLES: Final = {
    model.__name__: model.model_json_schema()["examples"][0]
    for model in (JobBody, BatchBody, ImageBody, QueuesBody, ProblemBody)
}

#: By it the middleware tells who calls.
_SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key that `blipline keys create NAME` printed",
    }
}

_TAGS: Final = [
    {"name": "jobs", "description": "One image, one question."},
    {"name": "batches", "description": "Any number of items under one id."},
    {"name": "images", "description": "Images that have no URL."},
    {"name": "queues", "description": "How much is open."},
    {"name": "health", "description": "For those who watch over it; they need no key."},
]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Entries of a route's `responses` for what it may refuse with."""
    return {status: _problem(status) for status in statuses}


def answers(
    descriptions: Mapping[int, str], model: type[BaseModel], *headers: str
) -> dict[int | str, dict[str, Any]]:
    """Entries of a route's `responses` for what it answers as JSON."""
    return {
        status: {
            "description": about,
            "model": model,
            "content": {"application/json": {}},
            "headers": {name: _HEADERS[name] for name in headers},
        }
        for status, about in descriptions.items()
    }


def job_body() -> dict[str, Any]:
    """The `requestBody` of a job: its form depends on the task."""
    refs = {task: _REF.format(model=model.__name__) for task, model in KINDS.items()}
    examples = {
        task: {"summary": model.__doc__, "value": model.model_json_schema()["examples"][0]}
        for task, model in KINDS.items()
    }
    schema = {
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "task", "mapping": refs},
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"required": True, "content": content}


def batch_body() -> dict[str, Any]:
    """The `requestBody` of a batch: a line of JSON for each item."""
    lines = {"schema": _SCHEMA_OF_LINES, "example": _LINES}
    content: dict[str, Any] = dict.fromkeys(LINES, lines)
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": _SCHEMA_OF_LINES},
        "additionalProperties": False,
    }
    content["multipart/form-data"] = {"schema": form, "example": {"file": _LINES}}
    return {
        "required": True,
        "description": "A line of JSON for each item, as docs/tasks.md has them; also as gzip "
        "(`Content-Encoding: gzip`, or a .gz file). In a form the part `file` has them and comes "
        "last; parts before it may say what the address may say.",
        "content": content,
    }


def image_body() -> dict[str, Any]:
    """The `requestBody` of an image: its bytes."""
    data = {"type": "string", "format": "binary", "minLength": 1}
    form = {"type": "object", "required": ["file"], "properties": {"file": data}}
    types = ("image/jpeg", "image/png", "application/octet-stream")
    content: dict[str, Any] = {kind: {"schema": data} for kind in types}
    return {
        "required": True,
        "description": "The bytes of an image file, of any type image/….",
        "content": {**content, "multipart/form-data": {"schema": form}},
    }


def describe(app: FastAPI) -> None:
    """Let the description of an app, all of whose routes are there, be complete."""
    found = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(found())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    schema["tags"] = _TAGS
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schema["components"]["securitySchemes"] = _SCHEMES
    schemas |= request_body.schemas(_REF) | {"ProblemBody": ProblemBody.model_json_schema()}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    # FastAPI leaves out what is null.
    for name, example in _EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            # The name of the function: FastAPI adds path and method.
            added = re.sub(r"\W", "_", path) + f"_{method}"
            operation["operationId"] = operation["operationId"].removesuffix(added)
            _complete_operation(operation, is_guarded(path), schemas)
    schema["components"]["schemas"] = dict(sorted(schemas.items()))


def _complete_operation(
    operation: dict[str, Any], guarded: bool, schemas: Mapping[str, Any]
) -> None:
    more: tuple[int, ...] = _GUARDED if guarded else (500,)
    more += _READING if "requestBody" in operation else ()
    if guarded:
        operation["security"] = [{name: []} for name in _SCHEMES]
    given = operation["responses"]
    if "HTTPValidationError" in str(given.get("422", "")):
        # FastAPI's own, which nobody is given here.
        given["422"] = _problem(422)
    for status in more:
        given.setdefault(str(status), _problem(status))
    for status, answer in given.items():
        for content in answer.get("content", {}).values():
            ref = content.get("schema", {}).get("$ref", "")
            known = schemas.get(ref.rpartition("/")[2], {}).get("examples")
            if known and "example" not in content:
                content["example"] = known[0]
        common = ("X-Request-Id", *(("RateLimit",) if guarded else ()))
        for name in (*common, *_OF_STATUS.get(status, ())):
            answer.setdefault("headers", {}).setdefault(name, _HEADERS[name])
    operation["responses"] = dict(sorted(given.items()))


def _problem(status: int) -> dict[str, Any]:
    code = EXAMPLES[status]
    title = STATUS[code][1]
    example = {
        "type": f"urn:blipline:error:{code}",
        "title": title,
        "status": status,
        "detail": "What is wrong here, and what to do",
        "code": code,
        "request_id": "01999f7e-0000-7000-8000-000000000000",
    }
    schema = {"$ref": _REF.format(model=ProblemBody.__name__)}
    return {"description": title, "content": {MEDIA_TYPE: {"schema": schema, "example": example}}}
