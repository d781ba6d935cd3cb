"""`python -m worker.consumer`: the consumer of one queue, as the supervisor starts it.

It is `celery -A worker.celery_app worker -P threads` without Celery's command line, whose
subcommands and plugins, such as Flower, cost processor time and memory in each consumer.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from celery.concurrency.thread import TaskPool
from celery.utils.nodenames import default_nodename, host_format

from worker.celery_app import app


def main() -> int | None:
    """Consume until a signal; return the exit code."""
    parser = ArgumentParser(prog="python -m worker.consumer", description=__doc__)
    parser.add_argument("-Q", "--queue", required=True, help="the queue that it consumes")
    parser.add_argument("-c", "--concurrency", type=int, required=True, help="number of threads")
    parser.add_argument("-n", "--hostname", help="name of its node; %%h is the host")
    arguments = parser.parse_args()
    worker = app.Worker(
        hostname=host_format(default_nodename(arguments.hostname)),
        queues=[arguments.queue],
        concurrency=arguments.concurrency,
        # With threads, one process handles many messages without forking.
        pool_cls=TaskPool,
        # Consumers do not communicate with each other.
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    # None without a failure.
    exit_code: int | None = worker.exitcode
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
