"""`blipline batch` status, cancel, retry, close, delete: administration of a batch."""

from __future__ import annotations

import time
from typing import Final

import click

from ..batch import Batch
from ..client import Client
from ..quantity import quantity
from ..results.progress import Progress
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .progress import watch_bar
from .status import warn_without_worker

#: Seconds between two polls of a watched batch.
POLL_S: Final = 1.0
#: Seconds without a submission after which the status reports the silence: the producer may have
#: died.
SILENCE_S: Final = 60.0

_WATCH_HELP = "Show the progress on a terminal until the end; exit code 1 if any item failed."


@click.command()
@options.batch_id
@click.option("--watch", is_flag=True, help=_WATCH_HELP)
@options.as_json(
    'Print {"batch", "state", "total", "done", "failed", "submitted", "rate", "left_s", "workers"}.'
)
@options.redis_url
def status(batch_id: str, watch: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Print the progress of a batch, its rate, and the remaining time.

    In JSON, "rate" (items per second) and "left_s" (remaining seconds) are null while they are
    unknown; "workers" is the number of workers that are alive. If a batch is still being submitted
    but has received no items for a long time, its producer has probably died: submit the same items
    under its id again, or close it.

    \b
      blipline batch status 0198c0de-…
      blipline batch status 0198c0de-… --watch && blipline batch results 0198c0de-… -o results.jsonl
      blipline batch status 0198c0de-… --json | jq .done
    """
    with Client(redis_url) as client:
        batch = client.batch(batch_id)
        progress = _watch(client, batch) if watch else batch.progress()
        depth = client.depth()
    if as_json:
        print_json(
            {
                "batch": batch_id,
                "state": progress.state.value,
                "total": progress.total,
                "done": progress.done,
                "failed": progress.failed,
                "submitted": progress.submitted and not progress.cut,
                "rate": progress.rate,
                "left_s": progress.left_s,
                "workers": depth.workers,
            }
        )
    else:
        print_line(f"{progress.state.value}: {_summary(progress)}")
        if not (progress.finished or progress.cancelled):
            warn_without_worker(depth)
    failed = progress.failed or not progress.finished
    return Exit.SOME_FAILED if watch and failed else Exit.OK


@click.command()
@options.batch_id
@options.as_json('Print {"batch", "state"}.')
@options.redis_url
def cancel(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Cancel a batch.

    Items that have not started never run; results are kept. `batch retry` resumes the batch.

    \b
      blipline batch cancel 0198c0de-…
    """
    with Client(redis_url) as client:
        batch = client.batch(batch_id)
        batch.cancel()
        progress = batch.progress()
    if as_json:
        print_json({"batch": batch_id, "state": progress.state.value})
    answered = f"{progress.done - progress.failed:,} of {quantity(progress.total, 'item')}"
    warn(f"batch {batch_id} is cancelled; answered: {answered}")
    return Exit.OK


@click.command()
@options.batch_id
@options.as_json('Print {"batch", "items"} instead of only the number.')
@options.redis_url
def retry(batch_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Retry the failed items of a batch, and print their number.

    The results of successful items are kept. A cancelled batch is resumed: the number includes its
    cancelled items, but not those that have not started.

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
    """Close a batch whose producer died.

    The batch receives no more items, so clients that wait for it reach its end. To submit
    the remaining items instead, repeat `batch submit --id`.

    \b
      blipline batch close 0198c0de-…
    """
    with Client(redis_url) as client:
        batch = client.batch(batch_id)
        batch.close()
        progress = batch.progress()
    warn(f"batch {batch_id} is closed; it has {quantity(progress.total, 'item')}")
    return Exit.OK


@click.command()
@options.batch_id
@options.redis_url
def delete(batch_id: str, redis_url: str | None) -> Exit:
    """Delete a batch and its results.

    Items that have not started never run.

    \b
      blipline batch delete 0198c0de-…
    """
    with Client(redis_url) as client:
        client.batch(batch_id).delete()
    warn(f"batch {batch_id} is deleted")
    return Exit.OK


def _watch(client: Client, batch: Batch) -> Progress:
    """Show the progress of a batch until it has ended; return the last progress."""
    done, changed_at = 0, time.monotonic()
    with watch_bar("running") as on_progress:
        while not ((progress := batch.progress()).finished or progress.cancelled):
            if progress.done != done:
                done, changed_at = progress.done, time.monotonic()
            client.worker_watch.look(time.monotonic() - changed_at)
            note = _summary(progress).partition(" done, ")[2]
            on_progress(progress.done, progress.total, note)
            time.sleep(POLL_S)
    return progress


def _summary(progress: Progress) -> str:
    """Return `1,234 of 10,000 done, 3 failed; 412 items/s, 21 s left`."""
    summary = f"{progress.done:,} of {progress.total:,} done, {progress.failed:,} failed"
    if progress.rate is not None and not progress.cancelled:
        rate = f"{progress.rate:,.0f}" if progress.rate >= 10 else f"{progress.rate:.2g}"
        summary += f"; {rate} items/s"
        if progress.left_s is not None:
            summary += f", {_duration(progress.left_s)} left"
    if progress.cut:
        summary += "; its submission was interrupted"
    elif not progress.submitted:
        summary += "; still being submitted"
        if progress.silent_s >= SILENCE_S:
            summary += f", but no items for {_duration(progress.silent_s)}"
    return summary


def _duration(seconds: float) -> str:
    """Return a duration in a suitable unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
