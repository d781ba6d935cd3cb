"""The texts of an image: a column of its row, the text beside it in an archive, a caption file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..errors import InvalidInput
from ..image_sources.caption_files import caption_names, captions_beside
from ..image_sources.embedded_captions import embedded_caption
from ..image_sources.picture import Picture
from ..image_sources.rows import list_of, text_column_of

#: Column in which `blipline annotate` writes several captions of an image.
_SEVERAL: Final = "texts"


def texts_of(picture: Picture, text_column: str | None) -> Sequence[str]:
    """Return the texts of an image, at least one; raises InvalidInput if it has none.

    `text_column` is the column of the texts; None: the first of the known names.
    """
    if text_column is None:
        if isinstance(several := list_of(picture.columns.get(_SEVERAL)), list):
            return _checked(several)
        if picture.caption is not None:
            return _checked(picture.caption)
    column = text_column_of(picture.columns, text_column)
    if column is not None:
        return _checked(picture.columns[column])
    if picture.columns:
        names = ", ".join(map(str, picture.columns))
        raise InvalidInput(
            f"text: missing: no column {text_column or 'with a text'}: name one with "
            f"--text-column; columns: {names:.200}"
        )
    if picture.path is None:
        raise InvalidInput("text: missing: the source has no text for this image")
    if texts := captions_beside(picture.path):
        return _checked(texts)
    if embedded := embedded_caption(picture.path):
        return _checked([line for line in embedded.split("\n") if line.strip()])
    names = " or ".join(name.rpartition("/")[2] for name in caption_names(picture.path)[2:])
    raise InvalidInput(f"text: missing: no {names} beside the image, and no description in it")


def _checked(value: Any) -> Sequence[str]:
    """Return the texts of a cell; raises InvalidInput."""
    if value is None or value == []:
        raise InvalidInput("text: missing")
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput(f"text: a string is needed, not {type(text).__name__}")
        if not text.strip():
            raise InvalidInput("text: empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput("text: not valid UTF-8: convert the file to UTF-8") from None
    return texts
