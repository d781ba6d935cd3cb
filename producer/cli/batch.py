"""`blipline batch`: submission of JSONL files of any length, and their results."""

from __future__ import annotations

from typing import Any, BinaryIO

import click

from ..batch import Batch
from ..client import Client
from ..contract import RESULT_TTL_S, Task
from ..image_sources.distinct_files import check_distinct
from ..ledger.ids import new_id
from ..quantity import quantity
from . import batch_admin, options
from .batch_results import ReadOptions, write_results
from .exit_codes import Exit, warn
from .output import json_lines_to, print_line
from .progress import progress_bar
from .submitted_items import submitted_items

_TIMEOUT_HELP = "Seconds to wait for the next result; without it, no limit."
_OUTPUT_HELP = (
    "Write the results to this file, once all are available; without it, to stdout as they arrive."
)
_ID_HELP = "Id of the batch; with it the command can be repeated after a crash."

_output = click.option("-o", "--output", metavar="OUT", help=_OUTPUT_HELP)


@click.group()
def batch() -> None:
    """Submit files of items, and read their results.

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
    help="Task of the items that do not name one.",
)
@click.option("--id", "batch_id", metavar="ID", help=_ID_HELP)
@click.option("--wait", is_flag=True, help="Wait for the results instead of printing the id.")
@_output
@options.timeout(None, _TIMEOUT_HELP)
@options.as_json('Without --wait: print {"batch", "items"} instead of only the id.')
@click.option(
    "--keep-s",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=RESULT_TTL_S,
    show_default=True,
    help="Seconds for which each result is kept.",
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
    **submit_options: Any,
) -> Exit:
    """Submit a file of items, one JSON object per line.

    The file - is stdin.

    \b
    An item:  {"custom_id": "1", "image": "cat.jpg", "question": "how many cats?"}
      image      a local path, a URL, or blob:<sha256>
      task       caption, vqa, chat, match, embed, describe or capfilt, if it differs from --task
      prompt     caption: beginning of the caption (optional)
      question   vqa, chat: the question
      answers    vqa: a list of answers, which are ranked (optional)
      history    chat: [{"question": "…", "answer": "…"}], oldest first (optional)
      texts      match, capfilt: ["a cat", "a dog"], the texts to compare with the image
      text       embed: a text, instead of an image
      prompts    describe: ["", "a photo of"], prompts of the first round (optional)
      detail     describe: low, medium or high (optional)
      captions   capfilt: the number of synthetic captions (optional)
      threshold  capfilt: least probability of accepted texts (optional)
      synthetic_threshold  capfilt: the same for synthetic captions (optional)
      options    generation options that replace those of the command line (optional)
      adapter    the worker's adapter that answers; not with match and embed (optional)
      custom_id  returned with the result; by default the line number

    \b
    A result: {"custom_id": "1", "status": "ok", "text": "two"}
              {"custom_id": "2", "status": "error", "error": {"code", "message"}}
      match adds "matches": [{"text", "probability", "cosine"}] in the order of the texts; its
      text is the most probable. embed has "embedding": [numbers] instead of a text. describe adds
      "candidates": [{"text", "prompt", "round", "score", "used"}] and its statistics. capfilt adds
      "accepted" and "rejected": [{"text", "source", "probability", "cosine"}].

    There is a result for each line, in the order of the lines. The result of an invalid line is an
    error; blank lines are skipped.

    With --id, a failed command can be repeated with the same file and options. It then submits only
    the items that were not submitted before.

    \b
      blipline batch submit items.jsonl
      blipline batch submit items.jsonl --id nightly-2026-11-21 --keep-s 604800
      blipline batch submit questions.jsonl --task vqa --wait -o answers.jsonl
      find photos -name '*.jpg' | jq -Rc '{image: ., custom_id: .}' |
        blipline batch submit - --task embed --wait > vectors.jsonl
    """
    if output is not None and not wait:
        raise click.UsageError("-o is for results: add --wait, or use `batch results ID -o OUT`")
    check_distinct({"-o": output}, [file.name])
    with json_lines_to(output) as write, Client(redis_url) as client:
        submitted, items = _submit(client, file, task, batch_id or new_id(), **submit_options)
        if wait:
            return write_results(submitted, ReadOptions(timeout_s), write)
        if as_json:
            write({"batch": submitted.id, "items": items})
        else:
            print_line(submitted.id)
        return Exit.OK


@batch.command()
@options.batch_id
@_output
@click.option("--as-completed", is_flag=True, help="Read results in the order of completion.")
@click.option(
    "--cursor",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help='Skip N lines; with --as-completed, continue after the line whose "cursor" is N.',
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for missing results, or stop at the first missing result.",
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

    With --no-wait, exit code 4 means that results are missing.

    With --as-completed, results are in the order of completion, and each line also has "index",
    the item's position from 0, and "cursor". A retried item appears again; for a cancelled batch,
    only the items that ended appear.

    \b
      blipline batch results 0198c0de-… -o results.jsonl
      blipline batch results 0198c0de-… --no-wait | wc -l
      blipline batch results 0198c0de-… --cursor $(wc -l < results.jsonl) >> results.jsonl
      blipline batch results 0198c0de-… --as-completed --cursor $(tail -n 1 seen.jsonl | jq .cursor)
    """
    read = ReadOptions(timeout_s if wait else 0.0, as_completed, cursor)
    with Client(redis_url) as client, json_lines_to(output) as write:
        return write_results(client.batch(batch_id), read, write)


for _command in (
    batch_admin.status,
    batch_admin.cancel,
    batch_admin.retry,
    batch_admin.close,
    batch_admin.delete,
):
    batch.add_command(_command)


def _submit(
    client: Client, file: BinaryIO, task: str, batch_id: str, **submit_options: Any
) -> tuple[Batch, int]:
    """Submit the items of a file; return the batch and the number of its items."""
    items = 0
    with progress_bar("submitting", None) as on_done:

        def count(total: int) -> None:
            nonlocal items
            items = total
            on_done(total)

        try:
            submitted = client.submit_batch(
                submitted_items(file, task, submit_options),
                task,
                batch_id=batch_id,
                on_submitted=count,
                **submit_options,
            )
        except BaseException:
            if items:
                warn(
                    f"submission interrupted: batch {batch_id} continues with "
                    f"{quantity(items, 'item')}; the same command with --id {batch_id} submits the "
                    "rest"
                )
            raise
    if not items:
        warn(f"{file.name}: no items")
    return submitted, items
