"""The errors file: a line of JSON for each image without a caption."""

from __future__ import annotations

from ..storage.item import ItemState
from ..storage.journal import Journal
from .files import replaced_file
from .rows import json_line


def write_errors(journal: Journal, path: str) -> None:
    """Write the errors of the images of this run that failed; raises OutputFailed."""
    with replaced_file(path, journal.identity) as file:
        for item in journal.items(ItemState.FAILED):
            if item.run != journal.run:
                continue
            error = {"code": item.code, "message": item.message}
            file.write(json_line({"file_name": item.picture.name, "error": error}))
