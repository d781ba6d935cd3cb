"""Captions of tables and other outputs with a row for each image, as references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..errors import InvalidInput
from ..image_sources.documents import is_metadata
from ..image_sources.output_rows import output_rows
from ..image_sources.rows import first_of, list_of

#: Columns that name an image, and that have its captions, in the order of preference.
_NAME_FIELDS: Final = ("file_name", "image", "path", "url", "image_id", "custom_id")
_CAPTION_FIELDS: Final = ("texts", "captions", "caption", "text")
#: Fields of an error, in JSON and in tables.
ERROR_FIELDS: Final = ("error", "error_message", "error_code")


def has_rows(document: Any) -> bool:
    """Return whether a file has a row for each image; `document` is its value, None if not JSON."""
    if isinstance(document, list):
        return bool(document) and isinstance(document[0], dict) and "caption" not in document[0]
    return document is None or (bool(document) and is_metadata(document))


def caption_rows(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each image with its captions; rows of errors have none.

    Raises InvalidInput for a row without a name or a text.
    """
    for position, row in output_rows(path):
        name = first_of(row, _NAME_FIELDS)
        if name is None:
            raise InvalidInput(
                f"{path}: {position}: none of {', '.join(_NAME_FIELDS)} names an image"
            )
        value = list_of(first_of(row, _CAPTION_FIELDS))
        captions = value if isinstance(value, list) else [value]
        if all(isinstance(caption, str) for caption in captions):
            yield str(name), captions
        elif first_of(row, ERROR_FIELDS) is None:
            raise InvalidInput(
                f"{path}: {position}: none of {', '.join(_CAPTION_FIELDS)} is a text"
            )
