"""Hits of a search as a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .output import replaced_file

if TYPE_CHECKING:
    from ..image_sources.image_bytes import ImageBytes
    from ..search.hit import Hit

#: Pixels of the longer side of a thumbnail.
THUMBNAIL_PX: Final = 320


def write_hits(path: str, title: str, hits: Sequence[Hit]) -> None:
    """Write an HTML page with the image or the text of each hit, and its scores."""
    from ..image_sources.image_bytes import ImageBytes
    from ..search.entry import Kind
    from ..sheets.entry import SheetEntry
    from ..sheets.images import thumbnails
    from ..sheets.page import SheetData, write_page

    entries = [
        SheetEntry(hit.name, hit.value, "", hit.error, _scores(hit))
        if hit.kind is Kind.IMAGE
        else SheetEntry(hit.name, None, hit.value, hit.error, _scores(hit))
        for hit in hits
    ]
    reader = ImageBytes()
    files = (_thumbnail_source(hit, reader) for hit in hits)
    with replaced_file(path) as file:
        data = SheetData.of_output(title, entries, [None] * len(entries))
        write_page(file, data, thumbnails(files, THUMBNAIL_PX, os.cpu_count() or 1))


def _thumbnail_source(hit: Hit, reader: ImageBytes) -> tuple[str | None, str | None]:
    from ..search.entry import Kind
    from ..sheets.images import located_image

    if hit.locator is not None:
        return located_image(hit.locator, reader)
    if hit.kind is not Kind.IMAGE:
        return None, None
    return hit.value, None if hit.path is None else str(hit.path)


def _scores(hit: Hit) -> dict[str, str]:
    scores = {} if hit.probability is None else {"match": f"{hit.probability:.4f}"}
    return scores | {"cosine": f"{hit.cosine:.4f}"}
