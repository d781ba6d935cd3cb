"""`blipline dead`: what was given up on although nothing is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ..client import Client
from ..dead_letters import DeadItem, DeadLetter
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .single_jobs import one_line

_all = click.option("--all", "everything", is_flag=True, help="All dead letters, in place of ids.")
_ids = click.argument("ids", metavar="[ID...]", nargs=-1)


@click.group()
def dead() -> None:
    """Look at dead letters, and ask them again.

    A dead letter is a job with an item that ended as `poisoned` (consumers or engines died of it)
    or `internal` (a bug): nothing is wrong with what was asked. It is kept as long as its result.

    \b
      blipline dead list
      blipline dead show 0198c0de-…:3
      blipline dead retry --all
      blipline dead purge 0198c0de-…:3
    """


@dead.command(name="list")
@options.as_json("A JSON line for each letter, as `dead show --json` prints it.")
@options.redis_url
def list_(as_json: bool, redis_url: str | None) -> Exit:
    """Print a line for each dead letter, the newest first.

    With tabs between: its id, when it died (UTC), its task, its error codes, how many of its items
    died, and the image (or text) of the first of them.

    \b
      blipline dead list
      blipline dead list | cut -f 1 | head -n 5 | xargs blipline dead retry
      blipline dead list --json | jq -r '.died[].item.image'
    """
    none = True
    with Client(redis_url) as client:
        for letter in client.dead:
            none = False
            if as_json:
                print_json(letter.to_json())
            else:
                print_line("\t".join(_columns(letter)))
    if none:
        warn("no dead letters")
    return Exit.OK


@dead.command()
@click.argument("letter_id", metavar="ID")
@options.as_json('{"id", "at", "task", "queue", "batch", "items", "died": [{"index", "item", …}]}.')
@options.redis_url
def show(letter_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Print all about a dead letter: its items that died, and of what.

    An item's number is its place among those submitted, from 0; of a batch, in the whole batch.

    \b
      blipline dead show 0198c0de-…:3
      blipline dead show 0198c0de-…:3 --json | jq -c '.died[].item' > items.jsonl
    """
    with Client(redis_url) as client:
        letter = client.dead.get(letter_id)
    if as_json:
        print_json(letter.to_json())
        return Exit.OK
    about = {"id": letter.id, "died": _when(letter), "task": letter.task, "queue": letter.queue}
    about |= {"batch": letter.batch or "none", "items": f"{_share(letter)} died"}
    for name, value in about.items():
        print_line(f"{name:<6} {value}")
    for one in letter.died:
        print_line(f"\n{one.index}: {one_line(one.message)} ({one.code})")
        print_line(f"  {json.dumps(one.item, ensure_ascii=False)}")
    return Exit.OK


@dead.command()
@_ids
@_all
@options.as_json('Print {"items"} instead of the number alone.')
@options.redis_url
def retry(ids: Sequence[str], everything: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Ask again what died, and print how many items that are.

    What else these jobs hold keeps its result. The answers are where they would have been: in the
    results of the job or the batch. They have no deadline any more. Those of a batch that was
    cancelled are cancelled: `batch retry` goes on with such a batch.

    \b
      blipline dead retry 0198c0de-…:3 0198c0de-…:7
      blipline dead retry --all
    """
    with Client(redis_url) as client:
        items = client.dead.retry(_chosen(ids, everything))
    _print_count("items", items, as_json)
    return Exit.OK


@dead.command()
@_ids
@_all
@options.as_json('Print {"letters"} instead of the number alone.')
@options.redis_url
def purge(ids: Sequence[str], everything: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Take jobs off the list, and print how many; their results stay as they are.

    \b
      blipline dead purge 0198c0de-…:3
      blipline dead purge --all
    """
    with Client(redis_url) as client:
        letters = client.dead.purge(_chosen(ids, everything))
    _print_count("letters", letters, as_json)
    return Exit.OK


def _chosen(ids: Sequence[str], everything: bool) -> Sequence[str] | None:
    """The ids, or None for all."""
    if bool(ids) == everything:
        raise click.UsageError("give ids (`blipline dead list` has them), or --all: one of the two")
    return None if everything else ids


def _print_count(name: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({name: count})
    else:
        print_line(str(count))


def _columns(letter: DeadLetter) -> list[str]:
    about = [letter.id, _when(letter), letter.task, ",".join(letter.codes), _share(letter)]
    return [*about, _subject(letter.died[0])]


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _share(letter: DeadLetter) -> str:
    return f"{len(letter.died):,} of {letter.items:,}"


def _subject(one: DeadItem) -> str:
    item: dict[str, Any] = one.item
    return one_line(str(item.get("image") or item.get("text") or ""))
