"""The options of an annotation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..contract import Detail, Task
from ..errors import InvalidInput
from ..image_sources import arguments
from ..image_sources.options import SourceOptions
from .outputs.choice import FOLDERS, FormatName, format_of
from .texts.text_rules import TextRules

#: Name of the journal in a folder.
JOURNAL_NAME: Final = ".blipline-annotate.db"


@dataclass(frozen=True)
class AnnotateOptions:
    """The options of an annotation."""

    sources: Sequence[str]
    output: str | None = None
    format: FormatName | None = None
    #: Change the images themselves (embed).
    in_place: bool = False
    task: Task = Task.CAPTION
    #: Beginning of every caption, or the prompts of a description's first round.
    prompts: Sequence[str] = ()
    #: Level of detail of descriptions; None: the default.
    detail: Detail | None = None
    questions: Sequence[str] = ()
    #: The worker's adapter that writes the texts; None: none.
    adapter: str | None = None
    captions: int = 1
    #: Attempts at a text without a banned phrase.
    attempts: int = 1
    rules: TextRules = field(default_factory=TextRules)
    source: SourceOptions = field(default_factory=SourceOptions)
    where: Sequence[str] = ()
    sample: int | None = None
    sample_seed: int = 0
    near_duplicates: bool = False
    retry_failed: bool = False
    #: Remove the rows of images that the sources do not have from a table or an archive.
    prune: bool = False
    journal: str | None = None
    #: Generation options that differ from their defaults.
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_selection(self) -> bool:
        """True if a run sees a part of the images of its sources."""
        return self.sample is not None or bool(self.where)

    @property
    def journal_path(self) -> str:
        """The file of the journal, beside the output unless it is named."""
        if self.journal is not None:
            return self.journal
        if self.output is not None:
            if format_of(self.output, self.format) in FOLDERS or os.path.isdir(self.output):
                return os.path.join(self.output, JOURNAL_NAME)
            folder, name = os.path.split(self.output)
            # A long name would be too long with a suffix.
            return os.path.join(folder, f".{name[:100]}.blipline.db")
        if os.path.isdir(self.sources[0]):
            return os.path.join(self.sources[0], JOURNAL_NAME)
        return JOURNAL_NAME


def check_place(options: AnnotateOptions) -> None:
    """Check the output: that of images without a folder, and --prune; raises InvalidInput."""
    source = next(filter(arguments.is_elsewhere, options.sources), None)
    if options.output is None and source is not None:
        raise InvalidInput(f"{source}: no folder is beside its images: choose an output with -o")
    if not options.prune:
        return
    if options.is_selection:
        raise InvalidInput("--prune needs all images of the sources: omit --sample and --where")
    if format_of(options.output, options.format) in FOLDERS:
        raise InvalidInput("--prune removes rows of tables and archives: omit it for a folder")
