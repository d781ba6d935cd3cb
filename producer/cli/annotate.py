"""`blipline annotate`: captions for a whole collection."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final, cast

import click

from ..annotate.client_on_demand import ClientOnDemand
from ..annotate.collection import Collection
from ..annotate.embedded.local_stack import local_stack
from ..annotate.estimate import estimate
from ..annotate.filters import FIELDS
from ..annotate.options import AnnotateOptions
from ..annotate.outputs.choice import FORMATS
from ..annotate.outputs.errors_file import write_errors
from ..annotate.overlap import check_overlap
from ..annotate.storage.database import damage_reported
from ..annotate.summary import RunCounts
from ..annotate.texts.text_rules import Existing, TextRules, banned_phrases, replacement
from ..client import Client
from ..contract import Detail, Task
from ..errors import ConnectionFailed
from ..image_sources.options import SourceOptions
from ..validation import check_adapter, check_text
from . import annotate_options, options
from .annotate_progress import annotation_progress
from .exit_codes import Exit, warn
from .failures import FIRST_FAILURES, FailureLines, warn_if_empty
from .option_groups import GroupedCommand
from .output import print_json

#: Options that `--help` shows first.
_FIRST: Final = (
    *("output", "form", "task", "prompts", "questions", "prefix", "existing", "where"),
    *("errors", "dry_run", "model"),
)


@click.command(cls=GroupedCommand, first=_FIRST)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File or folder, created if missing; by default beside each image.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="Form; by default that of OUT.")
@click.option(
    "--embed",
    "form",
    flag_value="embed",
    help="Write captions into the EXIF and XMP data of copies of the images, in the folder -o.",
)
@click.option("--in-place", is_flag=True, help="With --embed: into the images themselves.")
@annotate_options.text_options
@options.adapter
@annotate_options.source_options
@click.option(
    "--dry-run", is_flag=True, help="Write nothing; say what would be done, and how long."
)
@click.option("--retry-failed", is_flag=True, help="Try images again that failed before.")
@click.option(
    "--prune", is_flag=True, help="Remove rows of images that the sources do not have from OUT."
)
@click.option("--errors", metavar="FILE", help="Write the errors to this file, as JSON lines.")
@click.option("--journal", metavar="FILE", help="The journal; by default hidden beside the output.")
@click.option(
    "--local/--no-local",
    default=None,
    help="Start a Redis and a worker for this command.  [default: if no Redis is named]",
)
@click.option("--model", metavar="NAME", help="Model of --local: a directory or a hub name.")
@options.as_json("Print the summary as a line of JSON.")
@options.redis_url
@options.decoding_without("num_return_sequences", "output_scores")
def annotate(
    sources: Sequence[str],
    dry_run: bool,
    errors: str | None,
    local: bool | None,
    model: str | None,
    as_json: bool,
    redis_url: str | None,
    **arguments: Any,
) -> Exit:
    """Caption a whole collection of images.

    A SOURCE is a folder (with its subfolders), an image, a pattern, - (paths on standard input), a
    list of paths (.txt), a table (.jsonl, .csv, .tsv, .parquet), a WebDataset (.tar), a prefix of
    an object store (s3://…) or a URL.

    Without -o, each image gets a text file beside it. With -o, OUT is a folder for these files, or
    one file: .jsonl, .csv, .tsv, .parquet, .tar (WebDataset), metadata.jsonl (Hugging Face's
    ImageFolder), or .json (kohya's meta_cap.json).

    A journal records all answers. The same command continues after any interruption, also after
    kill -9, and captions only what is new or has changed. An interruption loses no caption and
    writes none twice. Texts that you edit, and rows and columns of others, stay in a table.

    \b
      blipline annotate photos/
      blipline annotate photos/ -o captions.jsonl --errors errors.jsonl
      blipline annotate photos/ --format caption --existing append --where 'side>=512'
      blipline annotate photos/ --prefix "a photo of sks, " --ban "arafed" --num-beams 4
      blipline annotate items.parquet -o answers.parquet --ask "how many people are there?"
      find . -name '*.png' -print0 | blipline annotate -0 - --dry-run
    """
    if local and redis_url is not None:
        raise click.UsageError("--local starts a Redis of its own: omit it, or --redis-url")
    has_redis = redis_url is not None or bool(os.environ.get("BLIPLINE_REDIS_URL"))
    if local is None:
        local = not has_redis
    if model is not None and not local:
        raise click.UsageError("--model is for --local: set BLIPLINE_MODEL of the running worker")
    if dry_run and errors is not None:
        raise click.UsageError("--dry-run prints the first errors: omit --errors")
    annotation = _options(sources, arguments)
    check_overlap(annotation, errors)
    with damage_reported(annotation.journal_path), ExitStack() as stack:
        collection = stack.enter_context(Collection(annotation, dry_run=dry_run))
        for note in collection.notes:
            warn(note)

        def connect() -> Client:
            url = redis_url
            if local:
                url = stack.enter_context(_local(model))
            return stack.enter_context(Client(url))

        if dry_run:
            return _dry_run(collection, connect, as_json)
        clients = ClientOnDemand(connect)
        if not local:
            # It connects at the first request as well; an invalid URL is an error now.
            clients.get()
        if errors is not None:
            # This shows at once, not after an hour, that the file cannot be written.
            write_errors(collection.journal, errors)
        # Each write of a file waits for the thread that submits; by default up to 5 ms.
        sys.setswitchinterval(0.0005)
        try:
            with annotation_progress() as on_counts:
                counts = collection.run(clients, on_counts)
        except ConnectionFailed as error:
            if local:
                raise
            raise ConnectionFailed(f"{error}; --local starts both for this command") from None
        finally:
            if errors is not None:
                write_errors(collection.journal, errors)
        _report(counts.lines(), counts.to_json(), as_json)
        warn_if_empty(counts.seen, "images")
        for note in counts.notes:
            warn(note)
        _warn_of_columns(collection)
        if counts.done:
            for name in collection.absent_placeholders:
                warn(f"{{{name}}}: no image has this column: its place in the captions is empty")
        if counts.failed:
            _report_failures(collection, counts, errors)
        return Exit.SOME_FAILED if counts.failed else Exit.OK


def _options(sources: Sequence[str], arguments: dict[str, Any]) -> AnnotateOptions:
    """Return the options of the command; raises InvalidInput."""
    names = [
        *("output", "task", "prompts", "questions", "adapter", "captions", "where", "sample"),
        *("sample_seed", "near_duplicates", "retry_failed", "journal", "in_place", "prune"),
    ]
    chosen = {name: arguments.pop(name) for name in names}
    source = SourceOptions(
        arguments.pop("image_column"), arguments.pop("text_column"), arguments.pop("null_separated")
    )
    banned = banned_phrases(arguments.pop("ban"))
    tries = arguments.pop("ban_tries")
    rules = TextRules(
        arguments.pop("prefix"),
        arguments.pop("suffix"),
        [replacement(pattern, text) for pattern, text in arguments.pop("replace")],
        banned,
        cast(Existing, arguments.pop("existing")),
        arguments.pop("separator"),
        has_columns=any(not os.path.isdir(path) for path in sources),
    )
    for question in chosen["questions"]:
        check_text("question", question)
    check_adapter(chosen["adapter"])
    form = arguments.pop("form")
    detail = arguments.pop("detail")
    task = Task.VQA if chosen["questions"] else Task.parse(chosen["task"])
    generation = options.check_generation(arguments, task)
    return AnnotateOptions(
        sources,
        format=form,
        attempts=tries if banned else 1,
        rules=rules,
        source=source,
        generation=generation,
        detail=None if detail is None else Detail(detail),
        **{**chosen, "task": Task.parse(chosen["task"])},
    )


@contextmanager
def _local(model: str | None) -> Iterator[str]:
    click.echo("starting a Redis and a worker for this command …", err=True)
    with local_stack({"BLIPLINE_MODEL": model} if model else {}, warn) as url:
        yield url


def _dry_run(collection: Collection, connect: Any, as_json: bool) -> Exit:
    result = estimate(collection, connect, lambda images: None)
    _report(result.lines(), result.to_json(), as_json)
    warn_if_empty(result.images, "images")
    _warn_of_columns(collection)
    return Exit.OK


def _report_failures(collection: Collection, counts: RunCounts, errors: str | None) -> None:
    """Name the first images that failed, with their reasons."""
    failures = FailureLines(listing=errors or "--errors FILE")
    for item in islice(collection.failures(), FIRST_FAILURES):
        failures.add(item.picture.name, f"{item.message} ({item.code})")
    failures.end(counts.failed)
    if counts.can_retry:
        warn("--retry-failed tries the failed images again")


def _warn_of_columns(collection: Collection) -> None:
    for name in collection.absent_columns:
        warn(f"--where: no image has a column {name!r}; other fields: {', '.join(FIELDS)}")


def _report(lines: Sequence[str], fields: dict[str, Any], as_json: bool) -> None:
    for line in lines:
        click.echo(line, err=True)
    if as_json:
        print_json(fields)
