"""The kinds of faults. Each is a generator: it does harm, yields for how many seconds that is to
last, and then mends it; what has no duration yields nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from demo.stack import ROOT
from tests.faults.cluster import VISIBILITY_TIMEOUT_S, WORKER_S, Cluster, Worker
from tests.faults.hosts import Host
from tests.faults.load import Load
from tests.faults.orders import Order
from tests.faults.processes import holds, send

#: Memory of a Redis that is full whatever is in it, and of one that has no limit.
FULL, UNLIMITED = "1mb", "0"
#: Producers of one batch until one is killed in the middle.
PRODUCERS: Final = 10


@dataclass(frozen=True)
class Stage:
    """What faults act upon."""

    cluster: Cluster
    load: Load
    host: Host
    rng: Random

    def worker(self) -> Worker:
        """Any worker; it is up, so that the fault hits somebody at work."""
        worker = self.rng.choice(self.cluster.workers)
        self.cluster.revive()
        worker.wait_ready()
        return worker

    def hit(self, number: int, *roles: str) -> list[int]:
        """Signal a process of one of these roles of any worker; it may just be starting again."""
        worker, role, hit = self.worker(), self.rng.choice(roles), list[int]()

        def there() -> bool:
            hit.extend(send(worker.pids(role), number))
            return bool(hit)

        if not holds(there, WORKER_S):
            raise RuntimeError(f"{worker.run_dir.name} has no {role}")
        return hit


Fault = Callable[[Stage], Iterator[float]]


def engine_killed(stage: Stage) -> Iterator[float]:
    """The supervisor starts another one; consumers keep the rows that it had."""
    stage.hit(signal.SIGKILL, "engine")
    yield from ()


def consumer_killed(stage: Stage) -> Iterator[float]:
    """With everything that it held: in its hands, and in the gap of BRPOP."""
    stage.hit(signal.SIGKILL, "bulk", "interactive")
    yield from ()


def consumer_stopped(stage: Stage) -> Iterator[float]:
    """For so long that others do its work; then it goes on as if nothing had been."""
    stopped = stage.hit(signal.SIGSTOP, "bulk", "interactive")
    yield VISIBILITY_TIMEOUT_S + stage.rng.uniform(1, 4)
    send(stopped, signal.SIGCONT)


def supervisor_killed(stage: Stage) -> Iterator[float]:
    """Its children leave by themselves, while a new tree starts in the same place."""
    stage.worker().signal(signal.SIGKILL).wait()
    yield stage.rng.uniform(0, 2)
    stage.cluster.revive()


def worker_ended(stage: Stage) -> Iterator[float]:
    """As an upgrade does it: SIGTERM, and a new tree when the old one is gone."""
    supervisor = stage.worker().signal(signal.SIGTERM)
    yield stage.rng.uniform(0, 2)
    supervisor.wait(WORKER_S)
    stage.cluster.revive()


def producer_killed(stage: Stage) -> Iterator[float]:
    """In the middle of submitting; another producer submits the whole batch again."""
    order = stage.load.order(stage.rng)
    for _ in range(PRODUCERS):
        if _killed_in_the_middle(stage, order):
            break
        # It ends by itself while Redis is away.
        yield 0.5
    else:
        raise RuntimeError("no producer came to the middle of its batch")
    yield stage.rng.uniform(0, 3)
    stage.load.adopt(order, stage.rng)


def _killed_in_the_middle(stage: Stage, order: Order) -> bool:
    """Whether the producer had submitted a part; Redis may be away just now."""
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
    """It comes back with what its log says."""
    assert stage.cluster.redis is not None
    stage.cluster.redis.kill()
    yield stage.rng.uniform(0.2, 2)
    stage.cluster.redis.start()


def connections_reset(stage: Stage) -> Iterator[float]:
    """All of them at once, producers' and workers'."""
    for proxy in stage.cluster.proxies:
        proxy.reset_all()
    yield from ()


def worker_partitioned(stage: Stage) -> Iterator[float]:
    """One worker and Redis hear nothing of each other; afterwards their connections go on, or are
    all gone, with what was on its way."""
    proxy = stage.worker().proxy
    assert proxy is not None
    proxy.partition()
    yield stage.rng.uniform(2, VISIBILITY_TIMEOUT_S + 4)
    if stage.rng.random() < 0.5:
        proxy.reset_all()
    proxy.heal()


def redis_full(stage: Stage) -> Iterator[float]:
    """Every write that needs memory is refused."""
    stage.cluster.configure("maxmemory", FULL)
    yield stage.rng.uniform(1, 5)
    stage.cluster.configure("maxmemory", UNLIMITED)


def host_slow(stage: Stage) -> Iterator[float]:
    """Images come late, in drips, and at a second try only."""
    stage.host.slow = True
    yield stage.rng.uniform(3, 8)
    stage.host.slow = False


def failed_over(stage: Stage) -> Iterator[float]:
    """The Sentinels make the replica the master, and the master a replica."""
    assert stage.cluster.sentinels is not None
    stage.cluster.sentinels.fail_over()
    yield from ()


def master_killed(stage: Stage) -> Iterator[float]:
    """The Sentinels make the replica the master; later the one that was comes back as a replica."""
    assert stage.cluster.sentinels is not None
    killed = stage.cluster.sentinels.kill_master()
    yield stage.rng.uniform(0, 3)
    killed.start()


#: What can happen to Redis where there is one, behind proxies.
TO_ONE_REDIS: Final[tuple[Fault, ...]] = (
    redis_killed,
    connections_reset,
    worker_partitioned,
    redis_full,
)
#: What can happen where there is a replica that Sentinels watch; nobody is between it and others.
TO_REPLICAS: Final[tuple[Fault, ...]] = (failed_over, master_killed)
#: What can happen to everything else.
ANYWHERE: Final[tuple[Fault, ...]] = (
    engine_killed,
    consumer_killed,
    consumer_stopped,
    supervisor_killed,
    worker_ended,
    producer_killed,
    host_slow,
)
