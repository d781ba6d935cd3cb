"""Captions within image files, as `blipline annotate --embed` writes them."""

from __future__ import annotations

import os

from ..contract import MAX_BLOB_BYTES
from .descriptions.containers import description_of


def embedded_caption(image: str) -> str | None:
    """Return the description in XMP or EXIF of an image file; None if it has none.

    The whole file is read: WebP has its metadata at the end.
    """
    # Reading a pipe or a device would not end.
    if not os.path.isfile(image):
        return None
    try:
        with open(image, "rb") as file:
            return description_of(file.read(MAX_BLOB_BYTES))
    except OSError:
        return None
