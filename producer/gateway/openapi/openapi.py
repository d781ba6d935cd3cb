"""OpenAPI description: the parts that FastAPI does not derive from the routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from ..access.auth import needs_api_key
from ..http.problems import EXAMPLES, MEDIA_TYPE, STATUS
from ..jobs import request_body
from ..schemas.job_responses import JobBody
from ..schemas.json_lines import LINE_MODELS
from ..schemas.list_responses import BatchListBody, JobListBody
from ..schemas.responses import BatchBody, ImageBody, ProblemBody, QueuesBody
from ..schemas.webhook_schemas import DeliveryBody, DeliveryListBody

#: Reference to a model's schema.
REF: Final = "#/components/schemas/{model}"

#: Error statuses of every route that needs an API key.
_GUARDED: Final = (401, 403, 429, 500, 503)
#: Error statuses of every route that reads a body.
_WITH_BODY: Final = (400, 408, 413, 415)

_HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-Id": {
        "description": "Id of this request, also in the log of the gateway.",
        "schema": {"type": "string"},
        "example": "01999f7e-0000-7000-8000-000000000000",
    },
    "RateLimit": {
        "description": "Remaining requests of this API key, and seconds until more are allowed.",
        "schema": {"type": "string"},
        "example": '"minute";r=599;t=60',
    },
    "Location": {
        "description": "Path of the job or batch.",
        "schema": {"type": "string"},
        "example": "/v1/jobs/01999f7e-0000-7000-8000-000000000000",
    },
    "Retry-After": {
        "description": "Seconds after which to retry or poll again.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 5,
    },
    "Preference-Applied": {
        "description": "The wait that was applied.",
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

#: Models whose examples have null values.
_EXAMPLE_MODELS: Final[Sequence[type[BaseModel]]] = (
    *(JobBody, BatchBody, ImageBody, QueuesBody, ProblemBody),
    *(JobListBody, BatchListBody, DeliveryBody, DeliveryListBody),
)

#: Security scheme, which the middleware enforces.
_SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, printed by `blipline keys create NAME`",
    }
}

#: Parameter of the routes that may wait for the end of a job.
PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: wait up to N seconds for the end of the job (long polling).",
    "schema": {"type": "string"},
    "example": "wait=10",
}

_TAGS: Final = [
    {"name": "tasks", "description": "One image, and its output in the response."},
    {"name": "jobs", "description": "One image and one question."},
    {"name": "batches", "description": "Any number of items under one id."},
    {"name": "webhooks", "description": "Deliveries of webhooks, and tests of their URLs."},
    {"name": "images", "description": "Images that have no URL."},
    {"name": "queues", "description": "Depth of the queues."},
    {"name": "health", "description": "Liveness, readiness and metrics, without an API key."},
]


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return entries of a route's `responses` for its errors."""
    return {status: _problem(status) for status in statuses}


def json_responses(
    descriptions: Mapping[int, str], model: type[BaseModel], *headers: str
) -> dict[int | str, dict[str, Any]]:
    """Return entries of a route's `responses` for its JSON responses."""
    return {
        status: {
            "description": description,
            "model": model,
            "content": {"application/json": {}},
            "headers": {name: _HEADERS[name] for name in headers},
        }
        for status, description in descriptions.items()
    }


SUBMIT_RESPONSES: Final = json_responses(
    {200: "The job has ended", 202: "The job is submitted; poll its `urls.get`"},
    JobBody,
    *("Location", "Retry-After", "Preference-Applied"),
)


def complete_openapi(app: FastAPI, describe_routes: Callable[[], None]) -> None:
    """Extend the description of an app that has all its routes.

    `describe_routes` is called before the first request for it: a start of the gateway builds no
    JSON Schemas.
    """
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            describe_routes()
            _complete(derive())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    schema["tags"] = _TAGS
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schema["components"]["securitySchemes"] = _SCHEMES
    requests = request_body.job_schemas(REF)
    schemas |= requests | {"ProblemBody": ProblemBody.model_json_schema()}
    for model in LINE_MODELS:
        parts = model.model_json_schema(ref_template=REF)
        schemas |= parts.pop("$defs", {}) | {model.__name__: parts}
    for name in (*requests, *(model.__name__ for model in LINE_MODELS)):
        _describe_defaults(schemas[name].get("properties", {}).values())
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    # FastAPI omits null values from examples.
    for response in _EXAMPLE_MODELS:
        if response.__name__ in schemas:
            schemas[response.__name__]["examples"] = response.model_json_schema()["examples"]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            # Only the name of the function: FastAPI appends path and method.
            suffix = re.sub(r"\W", "_", path) + f"_{method}"
            operation["operationId"] = operation["operationId"].removesuffix(suffix)
            _complete_operation(operation, needs_api_key(path), schemas)
    schema["components"]["schemas"] = dict(sorted(schemas.items()))


def _describe_defaults(properties: Iterable[dict[str, Any]]) -> None:
    """Move defaults into descriptions: generators count a field with a default as required."""
    for field in properties:
        default = field.pop("default", None)
        if isinstance(default, int | float | str):
            text = json.dumps(default).removesuffix(".0")
            field["description"] = f"{field.get('description', '')} Default: {text}.".strip()


def _complete_operation(
    operation: dict[str, Any], guarded: bool, schemas: Mapping[str, Any]
) -> None:
    statuses: tuple[int, ...] = _GUARDED if guarded else (500,)
    statuses += _WITH_BODY if "requestBody" in operation else ()
    if guarded:
        operation["security"] = [{name: []} for name in _SCHEMES]
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        # FastAPI's own error format, which the gateway does not use.
        responses["422"] = _problem(422)
    for status in statuses:
        responses.setdefault(str(status), _problem(status))
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            ref = content.get("schema", {}).get("$ref", "")
            examples = schemas.get(ref.rpartition("/")[2], {}).get("examples")
            if examples and "example" not in content:
                content["example"] = examples[0]
        common = ("X-Request-Id", *(("RateLimit",) if guarded else ()))
        for name in (*common, *_OF_STATUS.get(status, ())):
            response.setdefault("headers", {}).setdefault(name, _HEADERS[name])
    operation["responses"] = dict(sorted(responses.items()))


def _problem(status: int) -> dict[str, Any]:
    code = EXAMPLES[status]
    title = STATUS[code][1]
    example = {
        "type": f"urn:blipline:error:{code}",
        "title": title,
        "status": status,
        "detail": "The cause and the remedy",
        "code": code,
        "request_id": "01999f7e-0000-7000-8000-000000000000",
    }
    schema = {"$ref": REF.format(model=ProblemBody.__name__)}
    return {"description": title, "content": {MEDIA_TYPE: {"schema": schema, "example": example}}}
