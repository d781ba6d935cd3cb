"""Heartbeats of a consumer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import redis

from producer import Client
from producer.ledger.leases import Leases
from producer.ledger.records import Claim
from tests.consumer.runners import maintained, run_job
from worker.consumer.chunks import ChunkRunner
from worker.consumer.item_handler import NullPipeline
from worker.consumer.maintenance import Maintenance


class SlowLeases(Leases):
    """Leases whose claims wait for `resume`."""

    def __init__(self, connection: redis.Redis) -> None:
        super().__init__(connection)
        self.claimed, self.resume = threading.Event(), threading.Event()

    def claim(self, task_id: str, generation: str = "", started_at: float | None = None) -> Claim:
        self.claimed.set()
        assert self.resume.wait(20)
        return super().claim(task_id, generation, started_at)


def test_each_sweep_is_followed_by_a_look_at_the_server(connection: redis.Redis) -> None:
    swept, leases = threading.Event(), Leases(connection)
    maintenance = Maintenance(
        leases, ChunkRunner(leases, NullPipeline()), 0.1, on_sweep=lambda jobs: swept.set()
    )
    maintenance.start()
    try:
        assert swept.wait(20)
    finally:
        maintenance.stop()


def test_a_chunk_that_is_not_claimed_yet_sends_no_heartbeat(
    client: Client, connection: redis.Redis
) -> None:
    """The heartbeat would claim the chunk, and the claim itself then fail."""
    job = client.caption("https://images.example.com/1.jpg")
    leases = SlowLeases(connection)
    runner = ChunkRunner(leases, NullPipeline())
    with ThreadPoolExecutor(1) as pool, maintained(runner, leases):
        results = pool.submit(run_job, connection, runner, job.id)
        assert leases.claimed.wait(20)
        assert runner.running == []
        leases.heartbeat(runner.running)
        leases.resume.set()
        assert results.result(20) == [{"text": ""}]
