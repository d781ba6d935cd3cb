"""Sources of an index: folders, patterns, files, lists, tables, archives, object stores."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final

from ..contract import MAX_TEXT_CHARS
from ..errors import InvalidInput
from ..image_sources.archives import tar_pictures
from ..image_sources.arguments import no_source
from ..image_sources.forms import form_of
from ..image_sources.image_files import image_files, is_image_name, matching_files
from ..image_sources.lists import check_is_reference
from ..image_sources.options import SourceOptions
from ..image_sources.picture import Picture, check_path, path_from
from ..image_sources.rows import STORE_SCHEMES
from ..image_sources.stores import store_pictures
from ..image_sources.tables import table_pictures
from ..jsonl import MAX_LINE_BYTES
from ..ledger.blobs import is_reference
from ..ledger.data_url import is_data_url
from .entry import Entry, Kind, Unreadable, file_entry, hash_of, value_of

#: Names of a line's image, in the order of preference.
IMAGE_NAMES: Final = ("image", "file_name", "path", "url")
_WILDCARDS: Final = frozenset("*?[")
_DATA_URL: Final = "a data: URL has no name under which it could be found: write a file"

Entries = Iterator[Entry | Unreadable]


def canonical(source: str) -> str:
    """Return the name of a source that is the same in each working directory."""
    is_path = os.path.lexists(source) or not is_reference(source)
    return os.path.abspath(source) if is_path and source != "-" else source


def check(source: str) -> None:
    """Check that a source exists, before any work; raises InvalidInput."""
    if source == "-" or is_reference(source) or os.path.lexists(source):
        return
    if not _WILDCARDS & set(source):
        raise no_source(source)


def entries(
    source: str, image_column: str | None = None, index_folder: str | None = None
) -> Entries:
    """Yield the entries of a source; raises InvalidInput if there is no such source.

    A folder is read with its subfolders, a pattern as `glob` does (`**` for any folders). A list
    has a path or URL in each line, or an object with `image`, or `text`: a text to be found. CSV,
    Parquet, archives and prefixes of stores are read as by `blipline annotate`; `image_column` is
    the column of a table. A pattern does not match files of the index itself, in `index_folder`.
    """
    if source == "-":
        yield from _lines(sys.stdin.buffer, "stdin", os.getcwd(), has_objects=False)
    elif os.path.isdir(source):
        yield from _folder(source)
    elif os.path.lexists(source):
        yield from _file(source, source, image_column)
    elif _is_store_prefix(source):
        yield from map(_entry_of, store_pictures(source))
    elif is_reference(source):
        yield Entry(source, source, Kind.IMAGE, source)
    elif _WILDCARDS & set(source):
        yield from _matches(source, image_column, index_folder)
    else:
        raise no_source(source)


def _is_store_prefix(source: str) -> bool:
    """Return whether this is a prefix or a pattern of a store; a worker reads a single object."""
    scheme, separator, _ = source.partition("://")
    is_store = bool(separator) and scheme.lower() in STORE_SCHEMES
    return is_store and (bool(_WILDCARDS & set(source)) or not is_image_name(source))


def _file(path: str, name: str, image_column: str | None) -> Entries:
    form = form_of(path)
    if form == "tar":
        yield from _entries_of(path, tar_pictures(path))
    elif form in ("jsonl", "list"):
        yield from _list(path, has_objects=form == "jsonl")
    elif form is not None:
        yield from _entries_of(path, table_pictures(path, SourceOptions(image_column)))
    else:
        yield file_entry(path, name)


def _list(path: str, has_objects: bool) -> Entries:
    absolute = os.path.abspath(path)
    try:
        with open(path, "rb") as stream:
            yield from _lines(stream, absolute, os.path.dirname(absolute), has_objects)
    except OSError as error:
        yield Unreadable(path, error.strerror or str(error), hides_entries=True)


def _entries_of(path: str, pictures: Iterable[Picture]) -> Entries:
    """Yield the entries of a table or an archive; the names of its members begin with its name."""
    try:
        for picture in pictures:
            locator = picture.locator
            if locator.kind == "url" and is_data_url(locator.address):
                yield Unreadable(picture.name, _DATA_URL)
            elif locator.kind in ("url", "store"):
                # As in a list, a worker reads it.
                yield Entry(locator.address, locator.address, Kind.IMAGE, locator.address)
            elif locator.kind in ("tar", "cell"):
                name = f"{os.path.basename(path)}/{picture.name}"
                yield _entry_of(replace(picture, name=name))
            else:
                yield _entry_of(picture)
    except InvalidInput as error:
        yield Unreadable(path, str(error), hides_entries=True)


def _entry_of(picture: Picture) -> Entry | Unreadable:
    locator = picture.locator
    if locator.kind == "error":
        # A part without the number of its line is the rest of a file.
        return Unreadable(picture.name, locator.address, hides_entries=picture.number is None)
    # The key is a path for filters, also of a member.
    key = picture.key.replace("\0", "/")
    return Entry(key, picture.name, Kind.IMAGE, value_of(locator), picture.stamp)


def _matches(pattern: str, image_column: str | None, index_folder: str | None) -> Entries:
    paths = matching_files(pattern)
    if not paths:
        raise InvalidInput(f"{pattern}: no file matches")
    for path in paths:
        if index_folder is None or not _is_below(path, index_folder):
            yield from _file(path, path, image_column)


def _is_below(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def _folder(root: str) -> Entries:
    """Yield the images below a folder."""
    for path, name, error in image_files(root):
        if error is None:
            yield file_entry(path, name)
        else:
            yield Unreadable(name, error, hides_entries=True)


def _lines(stream: BinaryIO, origin: str, folder: str, has_objects: bool) -> Entries:
    """Yield an entry for each line that is not blank; relative paths are relative to `folder`.

    With `has_objects`, JSON that is no object is an error; else it is a path.
    """
    for number, line in enumerate(_limited_lines(stream), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise InvalidInput(f"longer than {MAX_LINE_BYTES:,} bytes")
            yield _entry_of_line(line, folder, has_objects)
        except InvalidInput as error:
            yield Unreadable(f"{origin} line {number}", str(error))


def _limited_lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES + 1)
        yield line


def _entry_of_line(line: bytes, folder: str, has_objects: bool) -> Entry:
    text = line.decode("utf-8-sig", "surrogateescape").rstrip("\r\n")
    if not text.lstrip().startswith("{"):
        if has_objects:
            check_is_reference(text, folder)
        return _image(text, folder)
    row = _parse(text)
    for name in IMAGE_NAMES:
        if row.get(name) is not None:
            if not isinstance(row[name], str):
                raise InvalidInput(f"{name}: a path or URL is needed, not {row[name]!r:.80}")
            return _image(row[name], folder)
    if isinstance(row.get("text"), str) and row["text"].strip():
        return _text(row["text"].strip())
    raise InvalidInput(f"needs one of {', '.join(IMAGE_NAMES)}, or text; it has {[*row]!r:.200}")


def _parse(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InvalidInput("not an object")
    return row


def _image(reference: str, folder: str) -> Entry:
    """Return the entry of a path or URL; a local file of this name comes first."""
    path = path_from(folder, reference)
    if is_data_url(reference):
        raise InvalidInput(_DATA_URL)
    if is_reference(reference) and not os.path.exists(path):
        return Entry(reference, reference, Kind.IMAGE, reference)
    check_path(reference)
    return file_entry(path, reference)


def _text(text: str) -> Entry:
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInput(f"text: longer than {MAX_TEXT_CHARS:,} characters")
    try:
        key = f"text:{hash_of(text)}"
    except UnicodeEncodeError:
        raise InvalidInput("text: not valid UTF-8") from None
    return Entry(key, text, Kind.TEXT, text)
