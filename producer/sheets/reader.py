"""Readers of outputs: tables, archives, folders with caption files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..image_sources.arguments import pictures
from ..image_sources.caption_files import MAX_CAPTION_BYTES, caption_names
from ..image_sources.embedded_captions import embedded_caption
from ..image_sources.forms import form_of
from ..image_sources.image_files import is_image_name
from ..image_sources.options import SourceOptions
from ..image_sources.output_rows import file_rows
from .entry import SheetEntry


def read_entries(path: str, items: str | None = None) -> list[SheetEntry]:
    """Read an output; raises InvalidInput that names the file and the line.

    `items` is the file that was submitted as a batch: results name only the `custom_id` of an
    item, which has the image.
    """
    if os.path.isdir(path):
        entries = list(_of_folder(path))
    elif form_of(path) in ("parquet", "tar"):
        contents = enumerate(pictures([path], SourceOptions()), start=1)
        entries = [SheetEntry.of_picture(picture, number) for number, picture in contents]
    else:
        rows = _rows(path)
        rows = _with_images(rows, items) if items is not None else rows
        entries = [SheetEntry.of_row(row, number) for number, row in enumerate(rows, start=1)]
    if not entries:
        without_texts = "no image has a caption file beside it or a description in it"
        missing = without_texts if os.path.isdir(path) else "there is nothing"
        raise InvalidInput(f"{path}: {missing} to show")
    return entries


def _rows(path: str) -> Iterator[Mapping[str, Any]]:
    for _, row in file_rows(path):
        yield row


def _with_images(rows: Iterable[Mapping[str, Any]], items: str) -> Iterator[Mapping[str, Any]]:
    """Add the image of each row's item, which has its `custom_id` or, without one, its line."""
    by_id = {
        str(item.get("custom_id", number)): item
        for number, item in enumerate(_rows(items), start=1)
    }
    for row in rows:
        item = by_id.get(str(row.get("custom_id")), {})
        added = {name: item[name] for name in ("image", "question", "prompt") if name in item}
        yield {**added, **row}


def _of_folder(path: str) -> Iterator[SheetEntry]:
    """Yield the images of a folder with a caption file beside them or a description, in order."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        names = set(files)
        for name in sorted(files):
            if not is_image_name(name):
                continue
            image = os.path.join(folder, name)
            shown = os.path.relpath(image, path), os.path.abspath(image)
            caption = next((file for file in caption_names(name) if file in names), None)
            if caption is not None:
                yield SheetEntry(*shown, *_caption(Path(folder, caption)))
            elif embedded := embedded_caption(image):
                yield SheetEntry(*shown, embedded)


def _caption(path: Path) -> tuple[str, str | None]:
    """Return the text of a caption file, and an error if it cannot be read."""
    # Reading a pipe or a device would not end.
    if path.exists() and not path.is_file():
        return "", f"{path.name}: not a regular file"
    try:
        with path.open("rb") as file:
            return file.read(MAX_CAPTION_BYTES).decode("utf-8-sig", "replace").strip(), None
    except OSError as error:
        return "", f"{path.name}: cannot be read: {error.strerror}"
