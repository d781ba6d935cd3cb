"""Rows of outputs: tables, JSON, archives, and folders with caption files, as mappings."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import InvalidInput
from .arguments import pictures
from .caption_files import CAPTION_SUFFIXES, caption_names, read_caption
from .csv_rows import csv_rows
from .documents import document_rows, json_lines
from .embedded_captions import embedded_caption
from .forms import form_of
from .image_files import is_image_name
from .options import SourceOptions

Row = Mapping[str, Any]


def output_rows(path: str) -> Iterator[tuple[str, Row]]:
    """Yield each row of an output with its position in it; raises InvalidInput.

    The rows of a folder are its caption files, and its images with a description but without such
    a file, each named as its image is, without the suffix.
    """
    if os.path.isdir(path):
        yield from _folder_rows(path)
    elif form_of(path) in ("parquet", "tar"):
        yield from _picture_rows(path)
    else:
        yield from file_rows(path)


def file_rows(path: str) -> Iterator[tuple[str, Row]]:
    """Yield each row of a table or a JSON file with its position in it; raises InvalidInput."""
    form = form_of(path)
    try:
        if form in ("csv", "tsv"):
            yield from _table_rows(path, form)
        elif form == "json":
            yield from _objects(path, document_rows(path))
        else:
            with open(path, "rb") as file:
                yield from _objects(path, json_lines(path, file))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def _objects(path: str, values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Row]]:
    for position, value in values:
        if not isinstance(value, dict):
            raise InvalidInput(f"{path}: {position}: not an object")
        yield position, value


def _table_rows(path: str, form: str) -> Iterator[tuple[str, Row]]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            for number, row in enumerate(csv_rows(file, form), start=1):
                yield f"row {number}", {name: row[name] for name in row if name is not None}
        except csv.Error as error:
            raise InvalidInput(f"{path}: not a table: {error}") from None


def _picture_rows(path: str) -> Iterator[tuple[str, Row]]:
    for number, picture in enumerate(pictures([path], SourceOptions()), start=1):
        if picture.locator.kind == "error" and picture.number is None:
            raise InvalidInput(picture.locator.address)
        caption = {} if picture.caption is None else {"text": picture.caption}
        yield f"row {number}", {"file_name": picture.name, **picture.columns, **caption}


def _folder_rows(path: str) -> Iterator[tuple[str, Row]]:
    for folder, folders, files in os.walk(path):
        folders.sort()
        present = set(files)
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            text = None
            if suffix in CAPTION_SUFFIXES:
                text = read_caption(os.path.join(folder, name))
            elif is_image_name(name) and present.isdisjoint(caption_names(name)):
                text = embedded_caption(os.path.join(folder, name))
            if text:
                relative = os.path.relpath(os.path.join(folder, stem), path)
                lines = text.split("\n")
                yield relative, {"file_name": relative, "text": lines[0], "texts": lines}
