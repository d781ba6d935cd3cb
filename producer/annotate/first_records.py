"""Check of the first records of a collection: they show at once what each later one would fail for.

Standard input, pipes and stores are not read before the run.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..image_sources import arguments
from .options import AnnotateOptions


def check_first_records(options: AnnotateOptions) -> None:
    """Raise InvalidInput if captions would have no place, or a placeholder no column."""
    if options.output is None:
        _check_place(options)
    if not (names := options.rules.columns):
        return
    pictures = arguments.first_pictures(options.sources, options.source)
    known = {column for picture in pictures for column in picture.columns}
    for name in names:
        if pictures and name not in known:
            raise InvalidInput(
                f"{{{name}}}: no column of the first {len(pictures)} records, and no placeholder; "
                f"{arguments.columns_text(known)}. Write {{{{ and }}}} for braces"
            )


def _check_place(options: AnnotateOptions) -> None:
    """Check that images without a folder of their own have an output."""
    pictures = arguments.first_pictures(options.sources, options.source)
    readable = [picture for picture in pictures if picture.locator.kind != "error"]
    if readable and all(picture.path is None for picture in readable):
        raise InvalidInput(
            f"{readable[0].name}: no folder is beside this image: choose an output with -o"
        )
