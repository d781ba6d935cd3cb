"""The kinds of faults. Each is a generator that causes a fault, yields its duration in seconds, and
then repairs it; a fault without a duration yields nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import redis

from demo.stack import ROOT, free_port
from producer import Queue
from tests.faults.cluster import VISIBILITY_TIMEOUT_S, WORKER_S, Cluster, Worker
from tests.faults.hosts import Host
from tests.faults.load import Load
from tests.faults.orders import Order
from tests.faults.processes import holds, send
from tests.hostile.messages import malformed_messages

#: maxmemory of a Redis that is always full, and of one without a limit.
FULL, UNLIMITED = "1mb", "0"
#: The answer of a Redis that loads its file.
LOADING: Final = b"-LOADING Redis is loading the dataset in memory\r\n"
#: Malformed messages for each queue at once.
MALFORMED: Final = 10
#: Tries to kill a producer in the middle of its batch.
PRODUCERS: Final = 10


@dataclass(frozen=True)
class Stage:
    """The targets of faults."""

    cluster: Cluster
    load: Load
    host: Host
    rng: Random

    def worker(self) -> Worker:
        """Return a random worker that is up, so that the fault hits it at work."""
        worker = self.rng.choice(self.cluster.workers)
        self.cluster.revive()
        worker.wait_ready()
        return worker

    def hit(self, number: int, *roles: str) -> list[int]:
        """Signal a process of one of these roles in a random worker; wait if it is restarting."""
        worker, role, hit = self.worker(), self.rng.choice(roles), list[int]()

        def signalled() -> bool:
            hit.extend(send(worker.pids(role), number))
            return bool(hit)

        if not holds(signalled, WORKER_S):
            raise RuntimeError(f"{worker.run_dir.name} has no {role}")
        return hit


Fault = Callable[[Stage], Iterator[float]]


def engine_killed(stage: Stage) -> Iterator[float]:
    """Kill the engine: the supervisor restarts it, and consumers submit its rows again."""
    stage.hit(signal.SIGKILL, "engine")
    yield from ()


def consumer_killed(stage: Stage) -> Iterator[float]:
    """Kill a consumer with its jobs, and with a message in the gap of BRPOP."""
    stage.hit(signal.SIGKILL, "bulk", "interactive")
    yield from ()


def consumer_stopped(stage: Stage) -> Iterator[float]:
    """Stop a consumer until others have its jobs, then let it continue."""
    stopped = stage.hit(signal.SIGSTOP, "bulk", "interactive")
    yield VISIBILITY_TIMEOUT_S + stage.rng.uniform(1, 4)
    send(stopped, signal.SIGCONT)


def supervisor_killed(stage: Stage) -> Iterator[float]:
    """Kill a supervisor: its children end, while a new tree starts in the same directory."""
    stage.worker().signal(signal.SIGKILL).wait()
    yield stage.rng.uniform(0, 2)
    stage.cluster.revive()


def worker_ended(stage: Stage) -> Iterator[float]:
    """Restart a worker as an upgrade does: SIGTERM, and a new tree when the old one has ended."""
    supervisor = stage.worker().signal(signal.SIGTERM)
    yield stage.rng.uniform(0, 2)
    supervisor.wait(WORKER_S)
    stage.cluster.revive()


def producer_killed(stage: Stage) -> Iterator[float]:
    """Kill a producer in the middle of its batch; another one submits the whole batch again."""
    order = stage.load.order(stage.rng)
    for _ in range(PRODUCERS):
        if _killed_in_the_middle(stage, order):
            break
        # A producer ends with an error while Redis is unavailable.
        yield 0.5
    else:
        raise RuntimeError("no producer reached the middle of its batch")
    yield stage.rng.uniform(0, 3)
    stage.load.adopt(order, stage.rng)


def _killed_in_the_middle(stage: Stage, order: Order) -> bool:
    """Kill a producer; return whether it had submitted a part of its batch."""
    path = order.save(stage.cluster.directory / f"{order.batch_id}.json")
    command = [sys.executable, "-m", "tests.faults.producer"]
    enough = stage.rng.randint(1, len(order.items) // 2)
    with subprocess.Popen(
        [*command, stage.cluster.producer_url, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as producer:
        assert producer.stdout is not None
        try:
            submitted = next((int(line) for line in producer.stdout if int(line) >= enough), 0)
        finally:
            producer.kill()
    return 0 < submitted < len(order.items)


def redis_killed(stage: Stage) -> Iterator[float]:
    """Kill Redis; it recovers from its append-only file."""
    assert stage.cluster.redis is not None
    stage.cluster.redis.kill()
    yield stage.rng.uniform(0.2, 2)
    stage.cluster.redis.start()


def connections_reset(stage: Stage) -> Iterator[float]:
    """Reset all connections of producers and workers at once."""
    for proxy in stage.cluster.proxies:
        proxy.reset_all()
    yield from ()


def worker_partitioned(stage: Stage) -> Iterator[float]:
    """Partition a worker from Redis; then heal its connections, or reset them with all pending
    data.
    """
    proxy = stage.worker().proxy
    assert proxy is not None
    proxy.partition()
    yield stage.rng.uniform(2, VISIBILITY_TIMEOUT_S + 4)
    if stage.rng.random() < 0.5:
        proxy.reset_all()
    proxy.heal()


def redis_full(stage: Stage) -> Iterator[float]:
    """Fill Redis, so that every write that needs memory fails."""
    stage.cluster.configure("maxmemory", FULL)
    yield stage.rng.uniform(1, 5)
    stage.cluster.configure("maxmemory", UNLIMITED)


# Another fault may kill Redis meanwhile: it is then in its initial state.


def redis_at_maxclients(stage: Stage) -> Iterator[float]:
    """Close all connections, and refuse new ones."""
    with suppress(redis.RedisError), stage.cluster.connect() as connection:
        connection.config_set("maxclients", 1)
        for kind in ("normal", "pubsub"):
            connection.client_kill_filter(_type=kind, skipme=True)
        yield stage.rng.uniform(1, 5)
        connection.config_set("maxclients", 10_000)


def redis_loading(stage: Stage) -> Iterator[float]:
    """Answer as a Redis that loads its file."""
    for proxy in stage.cluster.proxies:
        proxy.answer(LOADING)
    yield stage.rng.uniform(1, 5)
    for proxy in stage.cluster.proxies:
        proxy.answer(None)


def redis_read_only(stage: Stage) -> Iterator[float]:
    """Make Redis the replica of a master that is away."""
    with suppress(redis.RedisError), stage.cluster.connect() as connection:
        connection.replicaof("127.0.0.1", str(free_port()))
        yield stage.rng.uniform(1, 5)
        connection.replicaof("NO", "ONE")


def redis_slow(stage: Stage) -> Iterator[float]:
    """Let every command wait."""
    pause_s = stage.rng.uniform(1, 5)
    with suppress(redis.RedisError), stage.cluster.connect() as connection:
        connection.client_pause(int(1000 * pause_s), all=True)
    yield pause_s


def messages_malformed(stage: Stage) -> Iterator[float]:
    """Push messages that no consumer can process, between those of jobs."""
    with suppress(redis.RedisError), stage.cluster.connect() as connection:
        for queue in Queue:
            forms = [data for _, data in malformed_messages(queue)]
            for data in stage.rng.sample(forms, MALFORMED):
                connection.lpush(queue.value, data)
    yield from ()


def host_slow(stage: Stage) -> Iterator[float]:
    """Slow the image host: images arrive late, in drips, and only at a second try."""
    stage.host.slow = True
    yield stage.rng.uniform(3, 8)
    stage.host.slow = False


def failed_over(stage: Stage) -> Iterator[float]:
    """Fail over: the Sentinels promote the replica and demote the master."""
    assert stage.cluster.sentinels is not None
    stage.cluster.sentinels.fail_over()
    yield from ()


def master_killed(stage: Stage) -> Iterator[float]:
    """Kill the master: the Sentinels promote the replica, and the old master becomes a replica."""
    assert stage.cluster.sentinels is not None
    killed = stage.cluster.sentinels.kill_master()
    yield stage.rng.uniform(0, 3)
    killed.start()


#: Faults of a single Redis behind proxies.
TO_ONE_REDIS: Final[tuple[Fault, ...]] = (
    redis_killed,
    connections_reset,
    worker_partitioned,
    redis_full,
    redis_at_maxclients,
    redis_loading,
    redis_read_only,
    redis_slow,
    messages_malformed,
)
#: Faults of a replicated Redis with Sentinels and without proxies.
TO_REPLICAS: Final[tuple[Fault, ...]] = (failed_over, master_killed)
#: Faults of all other parts.
ANYWHERE: Final[tuple[Fault, ...]] = (
    engine_killed,
    consumer_killed,
    consumer_stopped,
    supervisor_killed,
    worker_ended,
    producer_killed,
    host_slow,
)
