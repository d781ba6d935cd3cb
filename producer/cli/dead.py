"""`blipline dead`: dead letters."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from ..client import Client
from ..client.dead_letters import DeadItem, DeadLetter, is_message
from ..ledger.malformed import MalformedMessage
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .single_jobs import one_line

_all = click.option("--all", "all_letters", is_flag=True, help="Select all dead letters.")
_ids = click.argument("ids", metavar="[ID...]", nargs=-1)


@click.group()
def dead() -> None:
    """Inspect, retry and purge dead letters.

    A dead letter is a job with an item that failed as `poisoned` (consumers or engines died while
    they processed it) or `internal` (an internal error): the item itself may be valid. It is kept
    as long as its result. A `malformed:…` is a message that no worker can process; any client of
    Redis can send one.

    \b
      blipline dead list
      blipline dead show 0198c0de-…:3
      blipline dead retry --all
      blipline dead purge 0198c0de-…:3
    """


@dead.command(name="list")
@options.as_json("Print a JSON line for each dead letter, in the form of `dead show --json`.")
@options.redis_url
def list_(as_json: bool, redis_url: str | None) -> Exit:
    """Print a line for each dead letter, the newest first.

    The tab-separated fields: the id, the time of death (UTC), the task, the error codes, the number
    of dead items, and the image (or text) of the first dead item. Malformed messages follow: the
    id, the time, the queue, `malformed`, the size, and the reason.

    \b
      blipline dead list
      blipline dead list | cut -f 1 | head -n 5 | xargs blipline dead retry
      blipline dead list --json | jq -r '.died[].item.image'
    """
    empty = True
    with Client(redis_url) as client:
        for letter in client.dead:
            empty = False
            if as_json:
                print_json(letter.to_json())
            else:
                print_line("\t".join(_columns(letter)))
        for message in client.dead.messages():
            empty = False
            if as_json:
                print_json(_message_json(message))
            else:
                print_line("\t".join(_message_columns(message)))
    if empty:
        warn("no dead letters")
    return Exit.OK


@dead.command()
@click.argument("letter_id", metavar="ID")
@options.as_json(
    'Print {"id", "at", "task", "queue", "batch", "items", "died": [{"index", "item", …}]}.'
)
@options.redis_url
def show(letter_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Print a dead letter with its dead items and their errors, or a malformed message.

    The number of an item is its position in the job or the batch, from 0. With --json, a malformed
    message has `message` with its reason, its size, and its first 16 KiB in base64.

    \b
      blipline dead show 0198c0de-…:3
      blipline dead show 0198c0de-…:3 --json | jq -c '.died[].item' > items.jsonl
    """
    with Client(redis_url) as client:
        if is_message(letter_id):
            return _show_message(client.dead.message(letter_id), as_json)
        letter = client.dead.get(letter_id)
    if as_json:
        print_json(letter.to_json())
        return Exit.OK
    fields = {
        "id": letter.id,
        "died": _timestamp(letter),
        "task": letter.task,
        "queue": letter.queue,
        "batch": letter.batch or "none",
        "items": f"{_died_of_total(letter)} died",
    }
    for name, value in fields.items():
        print_line(f"{name:<6} {value}")
    for item in letter.died:
        print_line(f"\n{item.index}: {one_line(item.message)} ({item.code})")
        print_line(f"  {json.dumps(item.item, ensure_ascii=False)}")
    return Exit.OK


@dead.command()
@_ids
@_all
@options.as_json('Print {"items"} instead of only the number.')
@options.redis_url
def retry(ids: Sequence[str], all_letters: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Retry the dead items of dead letters, and print their number.

    The results of the other items are kept. The new results replace the old ones in the results of
    the job or the batch. Retried items have no deadline. Items of a cancelled batch are not
    retried; `batch retry` resumes such a batch. Malformed messages cannot be retried.

    \b
      blipline dead retry 0198c0de-…:3 0198c0de-…:7
      blipline dead retry --all
    """
    with Client(redis_url) as client:
        items = client.dead.retry(_selected(ids, all_letters))
    _print_count("items", items, as_json)
    return Exit.OK


@dead.command()
@_ids
@_all
@options.as_json('Print {"letters"} instead of only the number.')
@options.redis_url
def purge(ids: Sequence[str], all_letters: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Remove dead letters, malformed messages too, and print their number.

    Results are kept.

    \b
      blipline dead purge 0198c0de-…:3
      blipline dead purge --all
    """
    with Client(redis_url) as client:
        letters = client.dead.purge(_selected(ids, all_letters))
    _print_count("letters", letters, as_json)
    return Exit.OK


def _selected(ids: Sequence[str], all_letters: bool) -> Sequence[str] | None:
    """Return the ids, or None for all; raises UsageError unless exactly one was given."""
    if bool(ids) == all_letters:
        raise click.UsageError("give either ids (`blipline dead list` prints them) or --all")
    return None if all_letters else ids


def _print_count(name: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({name: count})
    else:
        print_line(str(count))


def _show_message(message: MalformedMessage, as_json: bool) -> Exit:
    if as_json:
        print_json(_message_json(message))
        return Exit.OK
    fields = {
        "id": message.id,
        "died": _timestamp(message),
        "queue": message.queue,
        "size": f"{message.size_bytes:,} bytes",
        "reason": message.reason,
    }
    for name, value in fields.items():
        print_line(f"{name:<6} {one_line(value)}")
    print_line(f"\n{message.data!r}")
    return Exit.OK


def _message_json(message: MalformedMessage) -> dict[str, object]:
    """Return a malformed message in the form of a dead letter without items."""
    return {
        "id": message.id,
        "at": message.at,
        "task": None,
        "queue": message.queue,
        "batch": None,
        "items": 0,
        "died": [],
        "message": {
            "reason": message.reason,
            "bytes": message.size_bytes,
            "base64": base64.b64encode(message.data).decode(),
        },
    }


def _message_columns(message: MalformedMessage) -> list[str]:
    return [
        message.id,
        _timestamp(message),
        one_line(message.queue),
        "malformed",
        f"{message.size_bytes:,} bytes",
        one_line(message.reason),
    ]


def _columns(letter: DeadLetter) -> list[str]:
    return [
        letter.id,
        _timestamp(letter),
        letter.task,
        ",".join(letter.codes),
        _died_of_total(letter),
        _subject(letter.died[0]),
    ]


def _timestamp(letter: DeadLetter | MalformedMessage) -> str:
    return datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _died_of_total(letter: DeadLetter) -> str:
    return f"{len(letter.died):,} of {letter.items:,}"


def _subject(dead_item: DeadItem) -> str:
    return one_line(str(dead_item.item.get("image") or dead_item.item.get("text") or ""))
