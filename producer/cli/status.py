"""`blipline status`: the workers that are alive, and the depth of the queues."""

from __future__ import annotations

import click

from ..client import Client
from ..ledger.records import Depth
from ..ledger.worker_watch import NO_WORKER
from ..quantity import quantity
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line


@click.command()
@options.as_json('Print {"workers", "open_items", "running_jobs", "blob_bytes"}.')
@options.redis_url
def status(as_json: bool, redis_url: str | None) -> Exit:
    """Print the number of workers that are alive, and the depth of the queues.

    A worker counts as alive for half a minute after its last sign of life. Open items have no
    result yet; a job is one item, or a chunk of a batch.

    \b
      blipline status
      blipline status --json | jq .workers
    """
    with Client(redis_url) as client:
        depth = client.depth()
    open_items = {queue.value: items for queue, items in depth.items.items()}
    if as_json:
        print_json(
            {
                "workers": depth.workers,
                "open_items": open_items,
                "running_jobs": depth.running_jobs,
                "blob_bytes": depth.blob_bytes,
            }
        )
    else:
        print_line(f"workers: {depth.workers}")
        for name, items in open_items.items():
            print_line(f"{name}: {quantity(items, 'open item')}")
        print_line(f"running: {quantity(depth.running_jobs, 'job')}")
    warn_without_worker(depth)
    return Exit.OK


def warn_without_worker(depth: Depth) -> None:
    """Warn if nothing processes the queues."""
    if not depth.workers:
        warn(NO_WORKER)
