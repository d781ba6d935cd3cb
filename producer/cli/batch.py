"""`blipline batch`: files of any length, submitted and collected."""

from __future__ import annotations

from typing import Any, BinaryIO

import click

from ..batch import Batch
from ..client import Client
from ..contract import RESULT_TTL_S, Task
from ..jsonl import read_items
from ..ledger.ids import new_id
from . import batch_admin, options
from .batch_results import BatchReading, collect
from .exit_codes import Exit, warn
from .output import json_lines_to, print_line
from .progress import bar

_TIMEOUT_HELP = "Seconds to wait for the next result; without it, as long as it takes."
_OUTPUT_HELP = "Write the results there, when all are in; without it, to stdout as they come."
_ID_HELP = "An id of your own, so that the same command can be repeated after a crash."

_output = click.option("-o", "--output", metavar="OUT", help=_OUTPUT_HELP)


@click.group()
def batch() -> None:
    """Submit files of items, and collect their results.

    \b
      blipline batch submit items.jsonl --wait -o results.jsonl
      id=$(blipline batch submit items.jsonl)
      blipline batch status $id --watch
      blipline batch results $id -o results.jsonl
      blipline batch retry $id
    """


@batch.command()
@click.argument("file", metavar="FILE.jsonl", type=click.File("rb"))
@click.option(
    "--task",
    type=click.Choice([task.short for task in Task]),
    default=Task.CAPTION.short,
    show_default=True,
    help="What is asked of items that do not say it themselves.",
)
@click.option("--id", "batch_id", metavar="ID", help=_ID_HELP)
@click.option("--wait", is_flag=True, help="Wait for the results instead of printing the id.")
@_output
@options.timeout(None, _TIMEOUT_HELP)
@options.as_json('Without --wait: print {"batch", "items"} instead of the id alone.')
@click.option(
    "--keep-s",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=RESULT_TTL_S,
    show_default=True,
    help="How long each result is kept.",
)
@options.redis_url
@options.when_full("wait")
@options.generation
def submit(
    file: BinaryIO,
    task: str,
    batch_id: str | None,
    wait: bool,
    output: str | None,
    timeout_s: float | None,
    as_json: bool,
    redis_url: str | None,
    **how: Any,
) -> Exit:
    """Submit a file of items, one JSON object a line.

    The file - is stdin.

    \b
    An item:  {"custom_id": "1", "image": "cat.jpg", "question": "how many cats?"}
      image      a path from here, a URL, or blob:<sha256>
      task       caption, vqa, chat, match or embed, where it differs from --task
      prompt     caption: how it begins; may be missing
      question   vqa, chat: what to ask
      history    chat: [{"question": "…", "answer": "…"}], oldest first; may be missing
      texts      match: ["a cat", "a dog"], what the image is compared with
      text       embed: a text, in place of an image
      custom_id  comes back with the result; without it, the line number

    \b
    A result: {"custom_id": "1", "status": "ok", "text": "two"}
              {"custom_id": "2", "status": "error", "error": {"code", "message"}}
      match has "matches": [{"text", "probability", "cosine"}] besides, in the order of the texts,
      and as its text the likeliest; embed has "embedding": [numbers] in place of a text.

    There is a result for each line, in the order of the lines. A line that cannot be used gets an
    error of its own; blank lines are skipped.

    With --id, the command can be repeated if it did not end well, with the same file and options:
    what was submitted is not submitted twice, the rest is.

    \b
      blipline batch submit items.jsonl
      blipline batch submit items.jsonl --id nightly-2026-11-21 --keep-s 604800
      blipline batch submit questions.jsonl --task vqa --wait -o answers.jsonl
      find photos -name '*.jpg' | jq -Rc '{image: ., custom_id: .}' |
        blipline batch submit - --task embed --wait > vectors.jsonl
    """
    if output is not None and not wait:
        raise click.UsageError("-o is for results: add --wait, or use `batch results ID -o OUT`")
    with json_lines_to(output) as write, Client(redis_url) as client:
        submitted, items = _submit(client, file, task, batch_id or new_id(), **how)
        if wait:
            return collect(submitted, BatchReading(timeout_s), write)
        if as_json:
            write({"batch": submitted.id, "items": items})
        else:
            print_line(submitted.id)
        return Exit.OK


@batch.command()
@options.batch_id
@_output
@click.option("--as-completed", is_flag=True, help="In the order in which the items end.")
@click.option(
    "--cursor",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help='Go on after N lines; with --as-completed, after the line whose "cursor" is N.',
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for results that are not in yet, or print those up to the first that is missing.",
)
@options.timeout(None, _TIMEOUT_HELP)
@options.redis_url
def results(
    batch_id: str,
    output: str | None,
    as_completed: bool,
    cursor: int,
    wait: bool,
    timeout_s: float | None,
    redis_url: str | None,
) -> Exit:
    """Write a batch's results as JSON lines, in the order of its items.

    With --no-wait, exit code 4 says that some are not in yet.

    With --as-completed they come in the order in which they end, and a line has "index", the place
    of its item from 0, and "cursor" besides. What is asked again comes again, and of a batch that
    was cancelled there is what ended.

    \b
      blipline batch results 0198c0de-… -o results.jsonl
      blipline batch results 0198c0de-… --no-wait | wc -l
      blipline batch results 0198c0de-… --cursor $(wc -l < results.jsonl) >> results.jsonl
      blipline batch results 0198c0de-… --as-completed --cursor $(tail -n 1 seen.jsonl | jq .cursor)
    """
    reading = BatchReading(timeout_s if wait else 0.0, as_completed, cursor)
    with Client(redis_url) as client, json_lines_to(output) as write:
        return collect(client.batch(batch_id), reading, write)


for _command in (
    batch_admin.status,
    batch_admin.cancel,
    batch_admin.retry,
    batch_admin.close,
    batch_admin.delete,
):
    batch.add_command(_command)


def _submit(
    client: Client, file: BinaryIO, task: str, batch_id: str, **how: Any
) -> tuple[Batch, int]:
    """The batch, and how many items it has."""
    items = 0
    with bar("submitting", None) as on_done:

        def count(total: int) -> None:
            nonlocal items
            items = total
            on_done(total)

        try:
            submitted = client.submit_batch(
                read_items(file), task, batch_id=batch_id, on_submitted=count, **how
            )
        except BaseException:
            if items:
                warn(
                    f"stopped while submitting: {items:,} items go on as batch {batch_id}; the "
                    f"same command with --id {batch_id} submits the rest"
                )
            raise
    if not items:
        warn(f"{file.name}: no items")
    return submitted, items
