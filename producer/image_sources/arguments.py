"""Arguments of the command as sources: the kind of each is seen from its name and its file."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import InvalidInput
from ..image_files import image_files
from ..ledger.blobs import is_reference
from .archives import tar_pictures
from .folders import folder_pictures
from .lists import list_pictures
from .picture import Picture, file_picture
from .rows import STORE_SCHEMES, ReferenceReader
from .stores import store_pictures
from .tables import table_pictures

#: Suffixes of tables.
TABLE_SUFFIXES: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".pq")
_PATTERN: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options of sources."""

    #: Column of tables that has the image; None: the first of the known names.
    image_column: str | None = None
    #: Column of tables that has, or gets, the caption.
    text_column: str = "text"
    #: Entries of standard input are separated by NUL bytes.
    null_separated: bool = False


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


def check(arguments: Iterable[str]) -> None:
    """Check that each source exists, before any work."""
    for argument in arguments:
        is_url = "://" in argument or is_reference(argument) or argument.startswith("data:")
        if argument == "-" or os.path.lexists(argument) or is_url:
            continue
        if not _PATTERN & set(argument):
            raise InvalidInput(f"{argument}: no such file or folder")


def _source(argument: str, options: SourceOptions, alone: bool) -> Iterator[Picture]:
    suffix = os.path.splitext(argument)[1].lower()
    if argument == "-":
        reader = ReferenceReader("stdin", os.curdir, options.image_column, options.text_column)
        stdin = sys.stdin.buffer
        yield from list_pictures(stdin, reader, null_separated=options.null_separated)
    elif os.path.isdir(argument):
        yield from folder_pictures(argument, "" if alone else argument.rstrip("/") + "/")
    elif os.path.lexists(argument):
        if suffix in TABLE_SUFFIXES:
            yield from table_pictures(argument, options.image_column, options.text_column)
        elif suffix in (".tar", ".tgz", ".gz"):
            yield from tar_pictures(argument)
        else:
            yield file_picture(argument, argument)
    elif argument.partition("://")[0].lower() in STORE_SCHEMES and "://" in argument:
        yield from store_pictures(argument)
    elif is_reference(argument) or argument.startswith("data:"):
        reader = ReferenceReader(argument, os.curdir, None, options.text_column)
        yield reader.reference(argument, {}, 1)
    elif _PATTERN & set(argument):
        yield from _matches(argument, options)
    else:
        raise InvalidInput(f"{argument}: no such file or folder")


def _matches(pattern: str, options: SourceOptions) -> Iterator[Picture]:
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise InvalidInput(f"{pattern}: no file matches")
    for path in paths:
        if os.path.isfile(path):
            yield from _source(path, options, alone=False)
