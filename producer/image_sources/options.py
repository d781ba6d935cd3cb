"""Options of sources, which the commands that read collections share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Format of a table that is a stream of lines.
LineFormat = Literal["jsonl", "csv", "tsv"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options of sources."""

    #: Column of tables that has the image; None: the first of the known names.
    image_column: str | None = None
    #: Column of tables that has, or gets, the caption; None: the first of the known names.
    text_column: str | None = "text"
    #: Entries of standard input are separated by NUL bytes.
    null_separated: bool = False
    #: Format of files and of standard input; None: that of the name, or JSON lines.
    format: LineFormat | None = None
    #: The table is an output, whose rows are named by `file_name`; their images are not read.
    by_file_name: bool = False
    #: Images with texts are read. A table then needs a column of texts, and the reader rejects
    #: lines that can be read in two ways; a file that no suffix makes an image is a list.
    has_texts: bool = False
