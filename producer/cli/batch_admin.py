"""What is done about a batch while it runs, and after: status, cancel, retry, close, delete."""

from __future__ import annotations

import time
from typing import Final

import click

from ..batch import Batch
from ..client import Client
from ..progress import Progress
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .progress import live

#: Seconds between two looks at a batch that is watched.
WATCH_S: Final = 1.0
#: Seconds without a submission that are worth a word: its producer may be gone.
SILENCE_S: Final = 60.0

_WATCH_HELP = "Show how it goes, on a terminal, until it has ended; exit code 1 if any item failed."


@click.command()
@options.batch_id
@click.option("--watch", is_flag=True, help=_WATCH_HELP)
@options.as_json('{"batch", "state", "total", "done", "failed", "submitted", "rate", "left_s"}.')
@options.redis_url
def status(batch_id: str, watch: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Say how far a batch is, how fast it goes, and how long it will take.

    A rate (items a second) and the seconds left are null in JSON while they cannot be told. A batch
    that is still being submitted, and to which nothing has come for long, has lost its producer:
    submit the same items under its id again, or close it.

    \b
      blipline batch status 0198c0de-…
      blipline batch status 0198c0de-… --watch && blipline batch results 0198c0de-… -o results.jsonl
      blipline batch status 0198c0de-… --json | jq .done
    """
    with Client(redis_url) as client:
        one = client.batch(batch_id)
        now = _watch(one) if watch else one.progress()
    if as_json:
        counts = {"total": now.total, "done": now.done, "failed": now.failed}
        about = {"batch": batch_id, "state": now.state.value}
        pace = {"rate": now.rate, "left_s": now.left_s}
        print_json(about | counts | {"submitted": now.submitted and not now.cut} | pace)
    else:
        print_line(f"{now.state.value}: {_told(now)}")
    return Exit.SOME_FAILED if watch and (now.failed or not now.finished) else Exit.OK


@click.command()
@options.batch_id
@options.as_json('Print {"batch", "state"}.')
@options.redis_url
def cancel(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """End a batch: what has not begun never runs; what is done keeps its result.

    `batch retry` goes on with it after all.

    \b
      blipline batch cancel 0198c0de-…
    """
    with Client(redis_url) as client:
        one = client.batch(batch_id)
        one.cancel()
        now = one.progress()
    if as_json:
        print_json({"batch": batch_id, "state": now.state.value})
    warn(f"batch {batch_id} is cancelled; {now.done:,} of {now.total:,} items were done")
    return Exit.OK


@click.command()
@options.batch_id
@options.as_json('Print {"batch", "items"} instead of the number alone.')
@options.redis_url
def retry(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Ask again what failed; print how many items that are.

    What succeeded keeps its result. A batch that was cancelled goes on: with what was cancelled,
    and with what had not begun, which is not counted.

    \b
      blipline batch retry 0198c0de-… && blipline batch results 0198c0de-… -o results.jsonl
    """
    with Client(redis_url) as client:
        items = client.batch(batch_id).retry_failed()
    if as_json:
        print_json({"batch": batch_id, "items": items})
    else:
        print_line(str(items))
    return Exit.OK


@click.command()
@options.batch_id
@options.redis_url
def close(batch_id: str, redis_url: str | None) -> Exit:
    """Say that no more items come to a batch whose producer died while it submitted.

    Whoever waits for it then has its end. To submit the rest instead, repeat `batch submit --id`.

    \b
      blipline batch close 0198c0de-…
    """
    with Client(redis_url) as client:
        one = client.batch(batch_id)
        one.close()
        now = one.progress()
    warn(f"batch {batch_id} is closed; it has {now.total:,} items")
    return Exit.OK


@click.command()
@options.batch_id
@options.redis_url
def delete(batch_id: str, redis_url: str | None) -> Exit:
    """Drop a batch and its results; what has not begun never runs.

    \b
      blipline batch delete 0198c0de-…
    """
    with Client(redis_url) as client:
        client.batch(batch_id).delete()
    warn(f"batch {batch_id} is deleted")
    return Exit.OK


def _watch(one: Batch) -> Progress:
    """Look on until nothing more will come."""
    with live("running") as show:
        while not ((now := one.progress()).finished or now.cancelled):
            show(now.done, now.total, _told(now).partition(" done, ")[2])
            time.sleep(WATCH_S)
    return now


def _coming(now: Progress) -> str:
    if now.cut:
        return "its submission broke off"
    silent = now.silent_s >= SILENCE_S
    about = f", though nothing has come for {_span(now.silent_s)}" if silent else ""
    return f"still being submitted{about}"


def _told(now: Progress) -> str:
    """`1,234 of 10,000 done, 3 failed; 412 items/s, 21 s left`"""
    counts = f"{now.done:,} of {now.total:,} done, {now.failed:,} failed"
    more = f"; {_coming(now)}" if now.cut or not now.submitted else ""
    if now.rate is None or now.cancelled:
        return counts + more
    rate = f"{now.rate:,.0f}" if now.rate >= 10 else f"{now.rate:.2g}"
    left = "" if now.left_s is None else f", {_span(now.left_s)} left"
    return f"{counts}; {rate} items/s{left}{more}"


def _span(seconds: float) -> str:
    """A time in units that a person reads at a glance."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
