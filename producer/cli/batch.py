"""`blipline batch`: files of any length, submitted and collected."""

from __future__ import annotations

from typing import Any, BinaryIO

import click

from ..batch import Batch
from ..client import Client
from ..contract import Task
from ..errors import WaitTimeout
from ..ledger import new_id
from . import options
from .exits import Exit, complain
from .lines import read_items
from .output import WriteJson, json_lines_to, print_json, print_line
from .progress import bar

_TIMEOUT_HELP = "Seconds to wait for the next result; without it, as long as it takes."
_OUTPUT_HELP = "Write the results there, when all are in; without it, to stdout as they come."

_output = click.option("-o", "--output", metavar="OUT", help=_OUTPUT_HELP)
_id = click.argument("batch_id", metavar="ID")


@click.group()
def batch() -> None:
    """Submit files of items, and collect their results.

    \b
      blipline batch submit items.jsonl --wait -o results.jsonl
      id=$(blipline batch submit items.jsonl)
      blipline batch status $id
      blipline batch results $id -o results.jsonl
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
@click.option("--wait", is_flag=True, help="Wait for the results instead of printing the id.")
@_output
@options.timeout(None, _TIMEOUT_HELP)
@options.as_json('Without --wait: print {"batch", "items"} instead of the id alone.')
@options.redis_url
@options.generation
def submit(
    file: BinaryIO,
    task: str,
    wait: bool,
    output: str | None,
    timeout_s: float | None,
    as_json: bool,
    redis_url: str | None,
    deadline_s: float | None,
    **generation: Any,
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

    \b
      blipline batch submit items.jsonl
      blipline batch submit questions.jsonl --task vqa --wait -o answers.jsonl
      find photos -name '*.jpg' | jq -Rc '{image: ., custom_id: .}' |
        blipline batch submit - --task embed --wait > vectors.jsonl
    """
    if output is not None and not wait:
        raise click.UsageError("-o is for results: add --wait, or use `batch results ID -o OUT`")
    with json_lines_to(output) as write, Client(redis_url) as client:
        submitted, items = _submit(client, file, task, deadline_s=deadline_s, **generation)
        if wait:
            return _collect(submitted, timeout_s, write)
        if as_json:
            write({"batch": submitted.id, "items": items})
        else:
            print_line(submitted.id)
        return Exit.OK


@batch.command()
@_id
@options.as_json('Print {"batch", "state", "total", "done", "failed", "submitted"}.')
@options.redis_url
def status(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Say how far a batch is.

    \b
      blipline batch status 0198c0de-…
      blipline batch status 0198c0de-… --json | jq .done
    """
    with Client(redis_url) as client:
        now = client.batch(batch_id).progress()
    if as_json:
        counts = {"total": now.total, "done": now.done, "failed": now.failed}
        about = {"batch": batch_id, "state": now.state.value}
        print_json(about | counts | {"submitted": now.submitted})
        return Exit.OK
    more = "" if now.submitted else "; still being submitted"
    print_line(
        f"{now.state.value}: {now.done:,} of {now.total:,} done, {now.failed:,} failed{more}"
    )
    return Exit.OK


@batch.command()
@_id
@_output
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for results that are not in yet, or print those up to the first that is missing.",
)
@options.timeout(None, _TIMEOUT_HELP)
@options.redis_url
def results(
    batch_id: str, output: str | None, wait: bool, timeout_s: float | None, redis_url: str | None
) -> Exit:
    """Write a batch's results as JSON lines, in the order of its items.

    With --no-wait, exit code 4 says that some are not in yet.

    \b
      blipline batch results 0198c0de-… -o results.jsonl
      blipline batch results 0198c0de-… --no-wait | wc -l
    """
    with Client(redis_url) as client, json_lines_to(output) as write:
        return _collect(client.batch(batch_id), timeout_s if wait else 0.0, write)


@batch.command()
@_id
@options.as_json('Print {"batch", "state"}.')
@options.redis_url
def cancel(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """End a batch: what has not begun never runs; what is done keeps its result.

    \b
      blipline batch cancel 0198c0de-…
    """
    with Client(redis_url) as client:
        one = client.batch(batch_id)
        one.cancel()
        now = one.progress()
    if as_json:
        print_json({"batch": batch_id, "state": now.state.value})
    complain(f"batch {batch_id} is cancelled; {now.done:,} of {now.total:,} items were done")
    return Exit.OK


def _submit(client: Client, file: BinaryIO, task: str, **how: Any) -> tuple[Batch, int]:
    """The batch, and how many items it has."""
    batch_id, items = new_id(), 0
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
                complain(f"stopped while submitting: {items:,} items go on as batch {batch_id}")
            raise
    if not items:
        complain(f"{file.name}: no items")
    return submitted, items


def _collect(one: Batch, timeout_s: float | None, write: WriteJson) -> Exit:
    """Write every result; whatever ends the wait says how to go on."""
    failed = 0
    total = one.progress().total
    try:
        with bar("waiting", total, prints=write is print_json) as on_done:
            for result in one.results(timeout_s):
                write(result.to_json())
                failed += not result.ok
                on_done(result.index + 1)
    except KeyboardInterrupt:
        complain(f"the batch goes on. Its results: {_how_to_go_on(one)}")
        raise
    except WaitTimeout as error:
        raise WaitTimeout(f"{error}. Its results: {_how_to_go_on(one)}") from None
    if failed:
        complain(f"{failed:,} of {total:,} items failed")
    return Exit.SOME_FAILED if failed else Exit.OK


def _how_to_go_on(one: Batch) -> str:
    return f"blipline batch results {one.id}"
