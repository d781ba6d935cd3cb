"""Check that an annotation writes nothing over the collection that it reads."""

from __future__ import annotations

import os

from ..errors import InvalidInput
from ..image_sources.distinct_files import check_distinct
from ..image_sources.image_files import is_image_name
from .options import AnnotateOptions
from .outputs.choice import FOLDERS, format_of
from .outputs.webdataset import is_shard_of


def check_overlap(options: AnnotateOptions, errors: str | None) -> None:
    """Raise InvalidInput if a file of the collection would be replaced, or a file written twice."""
    form = format_of(options.output, options.format)
    table = None if form in FOLDERS else options.output
    outputs = {"-o": table, "--errors": errors, "--journal": options.journal_path}
    check_distinct(outputs, options.sources)
    for source in options.sources:
        if table is not None and is_shard_of(table, source):
            raise InvalidInput(f"-o {table}: {source} has the name of a shard: choose another one")
        if not os.path.isdir(source):
            continue
        if form == "embed" and options.output is not None and _is_below(options.output, source):
            raise InvalidInput(
                f"-o {options.output}: the copies would be images of {source}: choose a folder "
                "outside of it, or --in-place without -o"
            )
        for option, path in outputs.items():
            if path and is_image_name(path) and os.path.exists(path) and _is_below(path, source):
                raise InvalidInput(f"{option} {path}: is an image of {source}: choose another file")


def _is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or lies below it."""
    root = os.path.realpath(folder)
    return os.path.commonpath((root, os.path.realpath(path))) == root
