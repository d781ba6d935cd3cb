"""A Celery consumer whose items end when the key `test:go` exists, or when they are cancelled.

`python -m tests.consumer.celery_consumer URL CONCURRENCY CLOCK_OFFSET_S`: its clock is off by the
last argument. It counts consumers in `test:ready`, deliveries in `test:started`, and chunks that it
runs in `test:runs`.
"""

from __future__ import annotations

import sys
import time

_time, _offset_s = time.time, float(sys.argv[3])
# Before the imports: kombu binds the function by name.
time.time = lambda: _time() + _offset_s

from typing import Any  # noqa: E402

import redis  # noqa: E402
from celery import Celery, signals  # noqa: E402

from config.celeryconfig import celery_settings  # noqa: E402
from config.settings import WorkerSettings  # noqa: E402
from producer import contract  # noqa: E402
from producer.contract import ItemResult, Task  # noqa: E402
from producer.ledger.keys import Keys  # noqa: E402
from producer.ledger.leases import Leases  # noqa: E402
from worker.consumer import remote_control, transport  # noqa: E402
from worker.consumer.chunk_options import ChunkOptions  # noqa: E402
from worker.consumer.chunks import ChunkRunner  # noqa: E402
from worker.consumer.item_handler import ChunkState  # noqa: E402
from worker.consumer.maintenance import Maintenance  # noqa: E402
from worker.consumer.tasks import register  # noqa: E402

URL, CONCURRENCY = sys.argv[1:3]
connection = redis.Redis.from_url(URL)


class WaitingHandler:
    """An item handler that waits for the test."""

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        connection.incr("test:runs")
        while not connection.exists("test:go"):
            if state.cancelled:
                return [contract.failure("cancelled", "by the handler")] * len(items)
            time.sleep(0.02)
        return [{"text": "done"} for _ in items]

    def cancel(self, row_ids: list[int]) -> None:
        """Do nothing: `state` has the cancellation."""


def main() -> None:
    app = Celery("blipline", events="worker.consumer.events:ThreadSafeEvents")
    app.conf.update(celery_settings(WorkerSettings(redis_url=URL)))
    app.conf.broker_transport_options["unacked_restore_interval"] = 0.2
    app.amqp.queues.select(["interactive", "bulk"])
    leases = Leases(connection)
    runner = ChunkRunner(leases, WaitingHandler())
    register(app, lambda: runner)
    transport.install(connection, Keys())
    remote_control.install()
    Maintenance(leases, runner, sweep_s=1).start()
    signals.worker_ready.connect(lambda **_: connection.incr("test:ready"), weak=False)
    signals.task_prerun.connect(lambda **_: connection.incr("test:started"), weak=False)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    app.worker_main(["--quiet", "worker", "-P", "threads", "-c", CONCURRENCY, *options])


if __name__ == "__main__":
    main()
