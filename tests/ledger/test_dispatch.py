"""Fair queueing: the order in which submitters' jobs are released to Celery."""

from __future__ import annotations

import redis

from producer import Client, ClientSettings, Queue, contract
from producer.ledger import Leases

from .jobs import EXPIRED, KEYS, store_result, take_message, urls


def test_the_submitter_with_the_fewest_items_so_far_is_next(
    redis_url: str, connection: redis.Redis, leases: Leases
) -> None:
    """A thousand chunks of one submitter delay the others by no more than the window."""
    for name, chunks in (("large", 1000), ("small", 3), ("late", 3)):
        settings = ClientSettings(redis_url=redis_url, submitter=name)
        with Client(settings=settings) as client:
            # The large submitter has smaller chunks: items count, not chunks.
            size = 2 if name == "large" else 8
            client.submit_batch(urls(size * chunks), chunk_items=size, batch_id=name)
    order = []
    for _ in range(60):
        task_id = take_message(connection)
        leases.claim(task_id)
        order.append(task_id.partition(":")[0])
    indices = {
        name: [index for index, submitter in enumerate(order) if submitter == name]
        for name in set(order)
    }
    # 16 jobs of the large submitter were released before the others came.
    assert len(indices["small"]) == len(indices["late"]) == 3
    assert indices["small"][0] <= 20
    assert indices["late"][-1] < 60
    # From then on 8 items of each in turn: four chunks of the large submitter for each other one.
    assert indices["small"][2] - indices["small"][0] in range(8, 24)


def test_a_submitter_gains_nothing_from_many_batches(
    redis_url: str, connection: redis.Redis, leases: Leases
) -> None:
    for name, batches in (("greedy", 9), ("modest", 1)):
        with Client(settings=ClientSettings(redis_url=redis_url, submitter=name)) as client:
            for number in range(batches):
                client.submit_batch(urls(40), chunk_items=2, batch_id=f"{name}{number}")
    order = []
    for _ in range(56):
        order.append(take_message(connection))
        leases.claim(order[-1])
    modest = [task_id for task_id in order[16:] if task_id.startswith("modest")]
    assert len(modest) in range(19, 22), "half of the jobs"


def test_an_ended_job_is_not_released_to_celery(client: Client, connection: redis.Redis) -> None:
    """Its record is kept for a retry, and its id can be in the submitter queue twice."""
    leases = Leases(connection, lease_s=EXPIRED)
    client.submit_batch(urls(40), chunk_items=2, batch_id="first")
    client.submit_batch(urls(40), chunk_items=2, batch_id="again").delete()
    client.submit_batch(urls(40), chunk_items=2, batch_id="again")
    for number in range(20):
        store_result(leases, f"again:{number}", [contract.failure("internal", "x")] * 2)
    client.submit_batch(urls(2), batch_id="last")
    seen = set()
    for _ in range(80):
        if connection.llen("bulk"):
            seen.add(task_id := take_message(connection))
            store_result(leases, task_id, [{"text": "x"}] * 2)
    assert "last:0" in seen
    assert not connection.exists(KEYS.released(Queue.BULK), KEYS.open)
