"""A collection and all that is to be done with it: the options of the command as parts of a run."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, Final

from ..contract import Task
from ..errors import InvalidInput
from ..image_sources import arguments
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Picture
from ..validation import check_prompts
from .client_on_demand import ClientOnDemand
from .filters import PictureFilter, sample
from .first_records import check_first_records
from .flight import Flight
from .options import AnnotateOptions, check_place
from .outputs.choice import output_of
from .outputs.output import Output
from .parts import RunParts
from .planner import Planner
from .run import AnnotationRun
from .storage.item import ItemState, JournalItem
from .storage.journal import Journal
from .storage.near_duplicates import NearDuplicates
from .submitter import Submitter
from .summary import OnCounts, RunCounts
from .texts.answers import AnswerResolver
from .texts.recipe import Recipe, answers, captions

#: Seconds after which a source without a next image is left, to submit what is there.
_TICK_S: Final = 0.2


class Collection:
    """A collection with an open journal; close it with a `with` block."""

    def __init__(self, options: AnnotateOptions, *, dry_run: bool = False) -> None:
        options.rules.check()
        arguments.check(options.sources, options.source)
        check_place(options)
        check_first_records(options)
        self.options = options
        self.recipe = _recipe(options)
        self.output: Output = output_of(
            options.output,
            options.format,
            "text" if options.source.text_column is None else options.source.text_column,
            options.in_place,
        )
        self.reader = ImageBytes()
        self._filter = PictureFilter(
            options.where, self.reader, has_columns=options.rules.has_columns
        )
        path = options.journal_path
        if not dry_run and (folder := os.path.dirname(path)):
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                remedy = "choose another -o" if options.journal is None else "change --journal"
                raise InvalidInput(f"{folder}: {error.strerror}: {remedy}") from None
        self.journal = Journal(path, copy=dry_run)
        try:
            self.journal.choose(self.output.journal_name(os.path.dirname(os.path.abspath(path))))
            self.journal.label_answers(self._digest(), options.questions)
            if options.retry_failed:
                self.journal.forget_failures()
            #: Notes for the user: what was found in the output.
            self.notes = self.output.prepare(self.journal, writes=not dry_run)
            _check_targets(options, self.output)
        except BaseException:
            # Rows that were read in part must not replace those of the last run.
            self.journal.rollback()
            self.journal.close()
            raise
        self.resolver = AnswerResolver(self.journal, self.recipe, options.rules)
        self.planner = Planner(
            self.journal,
            self.output,
            options.rules,
            self.reader,
            self._digest(),
            NearDuplicates(self.journal) if options.near_duplicates else None,
        )

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def pictures(self) -> Iterator[Picture]:
        """Yield the images, or those of the sample; filters come later unless there is a sample."""
        pictures = arguments.pictures(self.options.sources, self.options.source)
        if self.options.sample is None:
            return pictures
        return sample(filter(self.belongs, pictures), self.options.sample, self.options.sample_seed)

    def belongs(self, picture: Picture) -> bool:
        """Return whether an image meets the conditions; raises InvalidInput."""
        return self._filter(picture)

    @property
    def absent_columns(self) -> list[str]:
        """Columns that conditions name and no image has had."""
        return self._filter.absent_columns

    @property
    def absent_placeholders(self) -> list[str]:
        """Columns that placeholders name and no image has had."""
        rules = self.options.rules
        return [name for name in rules.columns if name not in rules.found_columns]

    def failures(self) -> Iterator[JournalItem]:
        """Yield the images of this run that failed, in the order of the collection."""
        return (
            item for item in self.journal.items(ItemState.FAILED) if item.run == self.journal.run
        )

    def count(self) -> int | None:
        """Count the images without reading them; None if that would consume or list them twice."""
        if self.options.sample is not None:
            return self.options.sample
        if any(source == "-" or "://" in source for source in self.options.sources):
            return None
        return arguments.count(self.options.sources, self.options.source)

    def run(self, clients: ClientOnDemand, on_counts: OnCounts) -> RunCounts:
        """Annotate the collection; see `AnnotationRun.run`."""
        flight, counts = Flight(), RunCounts()
        source = self.pictures()
        pictures = _ticking(source) if "-" in self.options.sources else source
        submitter = Submitter(
            clients,
            self.journal,
            self.planner,
            self.resolver,
            self.reader,
            flight,
            pictures,
            self.belongs,
        )
        parts = RunParts(
            clients,
            self.journal,
            self.output,
            self.recipe,
            self.options.rules,
            self.resolver,
            flight,
            submitter,
            is_whole=not self.options.is_selection,
            prune=self.options.prune,
        )
        threading.Thread(target=self._count_into, args=[counts], daemon=True).start()
        # An edit between a killed run and its continuation is newer: see `adopt_edits`.
        is_overwriting = self.options.rules.existing == "overwrite"
        self.journal.write_state("overwriting", self._digest() if is_overwriting else "")
        AnnotationRun(parts, counts, on_counts).run()
        self.journal.write_state("overwriting", "")
        return counts

    def _count_into(self, counts: RunCounts) -> None:
        try:
            counts.total = self.count()
        except Exception:
            # The run itself reports a source that cannot be read.
            counts.total = None

    def _digest(self) -> str:
        """Return a hash of all that determines the texts and their place."""
        parts = [self.recipe.digest, self.options.rules.to_json(), self.output.description]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _check_targets(options: AnnotateOptions, output: Output) -> None:
    """Check that an output can name the images of tables and archives; raises InvalidInput."""
    for source in filter(arguments.may_contain_images, options.sources):
        first = next(arguments.pictures([source], options.source), None)
        if first is not None and first.locator.kind in ("tar", "cell"):
            output.target(first)


def _recipe(options: AnnotateOptions) -> Recipe:
    common = {} if options.adapter is None else {"adapter": options.adapter}
    if options.questions:
        if options.prompts or options.captions > 1 or options.task is not Task.CAPTION:
            raise InvalidInput("--ask cannot be combined with --prompt, --captions or --task")
        return answers(options.questions, common, options.attempts, options.generation)
    fields = common | _fields(options)
    return captions(options.task, fields, options.captions, options.attempts, options.generation)


def _fields(options: AnnotateOptions) -> dict[str, Any]:
    """Return the fields of an item that requests a caption or a description."""
    prompts = list(options.prompts)
    if options.task is Task.DESCRIBE:
        fields: dict[str, Any] = {"prompts": check_prompts(prompts)} if prompts else {}
        return fields if options.detail is None else fields | {"detail": options.detail.value}
    if options.detail is not None:
        raise InvalidInput("--detail is for descriptions: add --task describe")
    if len(prompts) > 1:
        raise InvalidInput("a caption has one --prompt; several are for --task describe")
    return {"prompt": prompts[0]} if prompts and prompts[0] else {}


def _ticking(pictures: Iterator[Picture]) -> Iterator[Picture | None]:
    """Yield the images of a slow source, and None while it has none."""
    ready: queue.Queue[Picture | BaseException | None] = queue.Queue(256)

    def read() -> None:
        try:
            for picture in pictures:
                ready.put(picture)
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=read, name="annotate source", daemon=True).start()
    while True:
        try:
            picture = ready.get(timeout=_TICK_S)
        except queue.Empty:
            yield None
            continue
        if isinstance(picture, BaseException):
            raise picture
        if picture is None:
            return
        yield picture
