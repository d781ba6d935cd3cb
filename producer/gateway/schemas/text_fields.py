"""Fields of a task as text, from a query or a form: conversion to the task's types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from ...errors import InvalidInput
from ...validation import unique_names
from ..http.problems import Problem
from ..jobs.request_body import request_error
from .job_options import JobOptions
from .task_fields import TaskFields

#: Names of the generation options, which a query or a form contains beside the other fields.
OPTION_NAMES: Final = frozenset(JobOptions.model_fields)

#: Values of fields, by name: a field that occurs several times has several.
TextValues = Mapping[str, Sequence[str]]


@cache
def field_schemas(model: type[TaskFields]) -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of the fields that a query or a form may contain, by name."""
    schemas: dict[str, dict[str, Any]] = dict(model.model_json_schema()["properties"])
    if schemas.pop("options", None) is not None:
        schemas |= JobOptions.model_json_schema()["properties"]
    return schemas


def text_values(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of names in the order of their occurrence."""
    values: dict[str, list[str]] = {}
    for name, text in pairs:
        values.setdefault(name, []).append(text)
    return values


def parse_text_fields(model: type[TaskFields], values: TextValues) -> TaskFields:
    """Return the fields of a task; raises Problem, or RequestValidationError for invalid ones."""
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    has_options = "options" in model.model_fields
    for name, texts in values.items():
        target = options if has_options and name in OPTION_NAMES else fields
        target[name] = _value(model, name, texts)
    if options:
        fields["options"] = _merge(fields.get("options", {}), options)
    try:
        # Texts have no other types, so they are converted.
        return model.model_validate(fields, strict=False)
    except ValidationError as error:
        raise request_error(error) from None


def is_plain_list(schema: Mapping[str, Any]) -> bool:
    """Return whether a field is a list of texts or numbers, which repeats its name."""
    return any("type" in part.get("items", {}) for part in _alternatives(schema))


def is_nested(schema: Mapping[str, Any]) -> bool:
    """Return whether a field is or contains objects, and is therefore JSON."""
    return any(
        "$ref" in {**part, **part.get("items", {})} or part.get("type") == "object"
        for part in _alternatives(schema)
    )


def _alternatives(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    alternatives: list[dict[str, Any]] = schema.get("anyOf", [dict(schema)])
    return alternatives


def _value(model: type[TaskFields], name: str, texts: Sequence[str]) -> Any:
    """Return the value of a field, or its text if the field is of a simple type or unknown."""
    schema = field_schemas(model).get(name, {})
    if is_plain_list(schema):
        return list(texts)
    if len(texts) > 1:
        raise Problem("option_invalid", f"{name:.100}: the request contains this field twice")
    if is_nested(schema) or (name == "options" and name in model.model_fields):
        return _json(name, texts[0])
    return texts[0]


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        # InvalidInput is a ValueError as well.
        reason = str(error) if isinstance(error, InvalidInput) else "is not valid JSON"
        raise Problem("option_invalid", f"{name}={text!r:.100}: {reason}") from None


def _merge(nested: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of both forms; raises Problem if they share a name."""
    if not isinstance(nested, dict):
        raise Problem("option_invalid", f"options={nested!r:.100}: must be a JSON object")
    for name in options:
        if name in nested:
            raise Problem("option_invalid", f"{name}: `options` contains this option as well")
    return nested | options
