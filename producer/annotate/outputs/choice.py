"""The output that the options name; its form follows from the name of its file."""

from __future__ import annotations

import os
from typing import Final, Literal, get_args

from ...errors import InvalidInput
from .embedded import EmbeddedOutput
from .kohya import KohyaOutput
from .output import Output
from .parquet import ParquetOutput
from .sidecars import SidecarOutput
from .tables import ImageFolderOutput, TableOutput
from .webdataset import WebDatasetOutput

#: Forms of outputs.
FormatName = Literal[
    "txt",
    "caption",
    "jsonl",
    "csv",
    "tsv",
    "parquet",
    "imagefolder",
    "kohya",
    "webdataset",
    "embed",
]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)
#: Columns of tables that have another meaning than a caption.
RESERVED: Final = ("", "file_name", "image", "texts", "answers")
#: Forms that are a file for each image.
SIDECARS: Final = ("txt", "caption")
#: Forms whose output is a folder.
FOLDERS: Final = (*SIDECARS, "embed")
_SUFFIXES: Final[dict[str, FormatName]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "kohya",
    ".tar": "webdataset",
}


def format_of(path: str | None, name: FormatName | None) -> FormatName:
    """Return the form of an output; raises InvalidInput if its file does not tell."""
    if name is not None:
        return name
    if path is None or path.endswith("/") or os.path.isdir(path):
        return "txt"
    if os.path.basename(path) == "metadata.jsonl":
        return "imagefolder"
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if not suffix:
        return "txt"
    raise InvalidInput(f"-o {path}: choose its form with --format: {', '.join(FORMATS)}")


def output_of(
    path: str | None,
    name: FormatName | None,
    text_column: str,
    in_place: bool = False,
) -> Output:
    """Return an output; raises InvalidInput if a table has no file, or copies have no folder."""
    if path == "-":
        raise InvalidInput("-o names a file or folder, which a later run resumes, not -")
    form = format_of(path, name)
    if text_column in RESERVED:
        raise InvalidInput(
            f"--text-column {text_column!r}: choose another name than {', '.join(RESERVED[1:])}"
        )
    if in_place and (form != "embed" or path is not None):
        raise InvalidInput("--in-place is for --embed without -o")
    if form == "embed":
        if path is None and not in_place:
            raise InvalidInput("--embed writes copies: choose their folder with -o, or --in-place")
        return EmbeddedOutput(path)
    if form in SIDECARS:
        return SidecarOutput(f".{form}", path)
    if path is None:
        raise InvalidInput(f"--format {form} needs a file: -o FILE")
    if form == "imagefolder":
        file = os.path.join(path, "metadata.jsonl") if os.path.isdir(path) else path
        return ImageFolderOutput(file, text_column)
    if form == "kohya":
        return KohyaOutput(path)
    if form == "parquet":
        return ParquetOutput(path, text_column)
    if form == "webdataset":
        return WebDatasetOutput(path, text_column)
    return TableOutput(
        path, "csv" if form == "csv" else "tsv" if form == "tsv" else "jsonl", text_column
    )
