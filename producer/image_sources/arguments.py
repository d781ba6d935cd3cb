"""Arguments of a command as sources: the kind of each is seen from its name and its file."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from textwrap import shorten
from typing import Final

from ..errors import InvalidInput
from ..ledger.blobs import is_reference
from .archives import tar_pictures
from .caption_files import CAPTION_SUFFIXES
from .folders import folder_pictures
from .forms import form_of
from .image_files import image_files, is_image_name, matching_files
from .lists import list_pictures
from .options import SourceOptions
from .picture import Picture, file_picture
from .rows import STORE_SCHEMES, ReferenceReader
from .stores import store_pictures
from .tables import line_pictures, table_pictures

#: Pictures of a source that show its columns: lines of JSON may differ.
_FIRST_PICTURES: Final = 100
_PATTERN: Final = frozenset("*?[")


def pictures(arguments: Sequence[str], options: SourceOptions) -> Iterator[Picture]:
    """Yield the pictures of all sources, in order; raises InvalidInput for an unusable source.

    With several sources, names begin with their source, so that they differ.
    """
    for argument in arguments:
        yield from _source(argument, options, alone=len(arguments) == 1)


def count(arguments: Sequence[str], options: SourceOptions) -> int:
    """Count the images of all sources, without reading them."""
    return sum(
        sum(1 for _ in image_files(argument))
        if os.path.isdir(argument)
        else sum(1 for _ in _source(argument, options, alone=True))
        for argument in arguments
    )


def first_pictures(arguments: Sequence[str], options: SourceOptions) -> list[Picture]:
    """Return the first pictures of each table, archive, image and URL; raises InvalidInput.

    A folder's pictures have no columns. A stream can be read once, and a store is slow: neither is
    read.
    """
    first: list[Picture] = []
    for argument in arguments:
        path = argument
        if not os.path.lexists(path) and _PATTERN & set(path) and "://" not in path:
            path = next(iter(matching_files(path)), path)
        is_url = not os.path.lexists(path) and "://" in path and not is_elsewhere(path)
        if is_url or os.path.isfile(path):
            first += islice(_source(path, options, alone=False), _FIRST_PICTURES)
    return first


def columns_text(names: Iterable[str]) -> str:
    """Return the columns of a table for an error message."""
    return f"columns: {shorten(', '.join(sorted(names)) or 'none', 400, placeholder=' …')}"


def check(arguments: Collection[str], options: SourceOptions) -> None:
    """Check that each source exists, before any work; raises InvalidInput."""
    if options.null_separated and "-" not in arguments:
        raise InvalidInput("-0 (--null) is for standard input: add the source -")
    for argument in arguments:
        is_url = "://" in argument or is_reference(argument) or argument.startswith("data:")
        if argument == "-" or os.path.lexists(argument) or is_url:
            continue
        if not _PATTERN & set(argument):
            raise no_source(argument)


def is_elsewhere(argument: str) -> bool:
    """Return whether the images of a source are in an archive or a store, without a folder."""
    scheme, is_url, _ = argument.partition("://")
    return form_of(argument) == "tar" or (bool(is_url) and scheme.lower() in STORE_SCHEMES)


def may_contain_images(argument: str) -> bool:
    """Return whether a source may be a table or an archive with the bytes of images."""
    return form_of(argument) in ("parquet", "tar")


def no_source(argument: str) -> InvalidInput:
    """Return the error of a source that does not exist."""
    return InvalidInput(f"{argument or repr(argument)}: no such file or folder")


def _source(argument: str, options: SourceOptions, alone: bool) -> Iterator[Picture]:
    if argument == "-":
        yield from _standard_input(options)
    elif os.path.isdir(argument):
        yield from folder_pictures(argument, "" if alone else argument.rstrip("/") + "/")
    elif os.path.lexists(argument):
        yield from _file(argument, options, alone)
    elif argument.partition("://")[0].lower() in STORE_SCHEMES and "://" in argument:
        if form_of(argument) not in (None, "list"):
            raise InvalidInput(
                f"{argument}: tables and archives are read from this machine: copy it here first"
            )
        yield from store_pictures(argument, has_texts=options.has_texts)
    elif is_reference(argument) or argument.startswith("data:"):
        yield ReferenceReader(argument, os.curdir, options).reference(argument, {}, 1)
    elif _PATTERN & set(argument):
        yield from _matches(argument, options)
    else:
        raise no_source(argument)


def _standard_input(options: SourceOptions) -> Iterator[Picture]:
    # A buffer of its own: at exit, Python waits for that of `sys.stdin`, and aborts while a thread
    # still reads from it.
    stream = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    if options.null_separated:
        reader = ReferenceReader("stdin", os.curdir, options)
        yield from list_pictures(stream, reader, null_separated=True)
    else:
        yield from line_pictures(stream, "stdin", os.curdir, options.format or "list", options)


def _file(path: str, options: SourceOptions, alone: bool) -> Iterator[Picture]:
    form = options.format or form_of(path)
    rows: Iterator[Picture]
    if form == "tar":
        rows = tar_pictures(path)
    elif form is not None or (options.has_texts and not is_image_name(path)):
        rows = table_pictures(path, options)
    else:
        rows = iter([file_picture(path, path)])
    for picture in rows:
        if not alone and picture.locator.kind in ("tar", "cell"):
            # Archives number their members, and tables their cells, each from 0.
            picture = replace(picture, name=f"{path}/{picture.name}")
        yield picture


def _matches(pattern: str, options: SourceOptions) -> Iterator[Picture]:
    paths = matching_files(pattern)
    if not paths:
        raise InvalidInput(f"{pattern}: no file matches")
    for path in paths:
        # A pattern such as `photos/*` also matches the caption files beside the images.
        if not path.endswith(CAPTION_SUFFIXES):
            yield from _source(path, options, alone=False)
