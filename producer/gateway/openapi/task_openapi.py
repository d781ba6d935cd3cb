"""OpenAPI description of the routes of one task: their three bodies, and their query."""

from __future__ import annotations

from typing import Any, Final

from ..schemas.request_fields import example_of
from ..schemas.task_fields import TaskFields
from ..schemas.text_fields import field_schemas, is_nested, is_plain_list
from .openapi import REF
from .openapi_bodies import BINARY, image_types

#: Rules of a simple type.
_RULES: Final = (
    *("type", "const", "format", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
)


def task_body(model: type[TaskFields]) -> dict[str, Any]:
    """Return the `requestBody` of a task: JSON, a form, or the bytes of the image."""
    content: dict[str, Any] = {
        "application/json": {
            "schema": {"$ref": REF.format(model=model.__name__)},
            "example": example_of(model),
        },
        "multipart/form-data": {"schema": _form(model)},
        **image_types(),
    }
    return {
        "required": model.model_fields["image"].is_required(),
        "description": "The fields as JSON; or a form with the file `file`; or the bytes of an "
        "image file, of any type `image/…`, with the fields in the query.",
        "content": content,
    }


def task_parameters(model: type[TaskFields]) -> list[dict[str, Any]]:
    """Return the query parameters that accompany the bytes of an image."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"{schema.get('description', '')} With an image as the body.".strip(),
            "schema": _text_schema(schema),
        }
        for name, schema in field_schemas(model).items()
        if name != "image"
    ]


def _form(model: type[TaskFields]) -> dict[str, Any]:
    schemas = field_schemas(model)
    properties = {name: _text_schema(schema) for name, schema in schemas.items() if name != "image"}
    return {
        "type": "object",
        "required": ["file"] if model.model_fields["image"].is_required() else [],
        "properties": {"file": BINARY, **properties},
    }


def _text_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field as text: a simple type, a list of texts, or JSON."""
    if is_nested(schema):
        return {"type": "string", "description": "JSON", "contentMediaType": "application/json"}
    alternatives = [part for part in schema.get("anyOf", (schema,)) if part != {"type": "null"}]
    if len(alternatives) > 1:
        return {"anyOf": [_text_schema(part) for part in alternatives]}
    (simple,) = alternatives
    result = {name: simple[name] for name in _RULES if name in simple}
    if is_plain_list(schema):
        result["items"] = simple["items"]
    return result
