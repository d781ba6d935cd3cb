"""The items of a batch, in the contract's form; an invalid one becomes an item with an error."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any, Final, cast

from pydantic import ValidationError

from ..contract import (
    MAX_CUSTOM_ID_CHARS,
    ErrorCode,
    Item,
    ItemError,
    ItemOptions,
    ItemPayload,
    blob_hash,
)
from ..errors import InvalidInput
from ..validation import format_errors
from . import blobs
from .blobs import ImageSource
from .publisher import unknown_upload

#: Fields of an item that hold lists, objects or numbers; the worker checks their contents.
_STRUCTURED: Final = (
    "answers",
    "captions",
    "error",
    "history",
    "options",
    "prompts",
    "synthetic_threshold",
    "texts",
    "threshold",
)

_FIELDS: Final = tuple(Item.model_fields)
#: The fields that callers set; `error` belongs to producers.
_NAMES: Final = tuple(name for name in _FIELDS if name != "error")

#: An item of a batch: an image, or a mapping of the contract's form.
ItemSource = ImageSource | Mapping[str, Any]


def prepare(source: ItemSource) -> dict[str, Any]:
    """Return an item in the contract's form; a local image is still bytes.

    An invalid item becomes an item with an error; the other items are not affected.
    """
    item = dict(source) if isinstance(source, Mapping) else {"image": source}
    for name, value in item.items():
        if name not in _FIELDS:
            return _failed(item, f"{name}: no such name; valid names: {', '.join(_NAMES)}")
        problem = None if name == "image" else _problem(name, value)
        if problem is not None:
            return _failed(item, f"{name}: {problem}")
    image = item.get("image")
    if item.get("error") is not None or image is None or (isinstance(image, str) and not image):
        # The worker reports an earlier error, or a missing image, in the result.
        return item
    try:
        item["image"] = blobs.read(image)
    except InvalidInput as error:
        return _failed(item, str(error), ErrorCode(error.code))
    except Exception as error:
        # A foreign object may raise anything when its bytes are read.
        message = f"the image cannot be read: {type(error).__name__}: {error}"
        return _failed(item, message, ErrorCode.IMAGE_INVALID)
    return item


def reject_unknown(item: ItemPayload, unknown: Container[str]) -> ItemPayload:
    """Return an item, or an error if its image is an unknown upload, given by its SHA-256."""
    sha = blob_hash(item.get("image") or "")
    if sha not in unknown:
        return item
    failed = _failed(item, unknown_upload(sha), ErrorCode.IMAGE_UNREACHABLE)
    return cast(ItemPayload, failed)


def _problem(name: str, value: Any) -> str | None:
    """Return the error of a field that could not be written in a message."""
    if name == "options":
        return _options_problem(value)
    if name not in _STRUCTURED:
        if value is not None and not isinstance(value, str):
            return f"a string is needed, not {type(value).__name__}"
        if name == "custom_id" and value is not None and len(value) > MAX_CUSTOM_ID_CHARS:
            return f"has {len(value):,} characters; the limit is {MAX_CUSTOM_ID_CHARS}"
        return None
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON: {error}"
    return None


def _options_problem(options: Any) -> str | None:
    """Return the error of generation options, from which the bytes of the result are estimated."""
    try:
        ItemOptions.model_validate(options or {})
    except ValidationError as error:
        return format_errors(error, ItemOptions)
    return None


def _failed(
    item: Mapping[str, Any], message: str, code: ErrorCode = ErrorCode.OPTION_INVALID
) -> dict[str, Any]:
    error = ItemError(code=code, message=message)
    custom_id = item.get("custom_id")
    known = {} if custom_id is None else {"custom_id": str(custom_id)[:MAX_CUSTOM_ID_CHARS]}
    return {**known, "error": error.model_dump(mode="json")}
