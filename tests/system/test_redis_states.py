"""A worker holds few connections in every state of Redis, and recovers when the state ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis

from demo.stack import free_port, running_redis, running_worker
from producer import Client
from tests.faults.processes import processes_of, send
from tests.faults.proxy import Proxy, running_proxy
from tests.redis_servers import wait_until

SETTINGS = {
    "BLIPLINE_MODEL": "null",
    "BLIPLINE_BULK_SLOTS": "2",
    "BLIPLINE_INTERACTIVE_SLOTS": "2",
    "BLIPLINE_LEASE_S": "2",
    "BLIPLINE_SWEEP_S": "1",
}
#: Maximum connections of two consumers with two slots each; at rest they hold 14.
MAX_CONNECTIONS: Final = 30
#: Seconds in a state: enough attempts to connect again to exceed the maximum if each left one.
STATE_S: Final = 3.0
IMAGE = "https://images.example.com/a.png"


@dataclass(frozen=True)
class Stage:
    """A worker, its Redis, and a proxy between them that counts connections."""

    redis: redis.Redis
    url: str
    proxy: Proxy
    run_dir: Path
    processes: list[int]

    def signal_consumers(self, number: int) -> None:
        for role in ("interactive", "bulk"):
            send(processes_of(self.run_dir, role), number)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        url = stack.enter_context(running_redis())
        proxy = stack.enter_context(running_proxy(int(url.rpartition(":")[2].partition("/")[0])))
        tree = stack.enter_context(running_worker(proxy.url, SETTINGS))
        connection = stack.enter_context(redis.Redis.from_url(url))
        yield Stage(connection, url, proxy, tree.run_dir, sorted(processes_of(tree.run_dir)))


@contextmanager
def full(stage: Stage) -> Iterator[None]:
    stage.redis.config_set("maxmemory", 1)
    yield
    stage.redis.config_set("maxmemory", 0)


@contextmanager
def at_maxclients(stage: Stage) -> Iterator[None]:
    """Close the worker's connections, and refuse new ones."""
    stage.redis.config_set("maxclients", 1)
    for kind in ("normal", "pubsub"):
        stage.redis.client_kill_filter(_type=kind, skipme=True)
    yield
    stage.redis.config_set("maxclients", 10_000)


@contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    """Make Redis a replica whose master is away."""
    stage.redis.replicaof("127.0.0.1", str(free_port()))
    yield
    stage.redis.replicaof("NO", "ONE")


@contextmanager
def slow(stage: Stage) -> Iterator[None]:
    stage.redis.client_pause(int(1000 * STATE_S), all=True)
    yield


@contextmanager
def away(stage: Stage) -> Iterator[None]:
    stage.proxy.partition()
    stage.proxy.reset_all()
    yield
    stage.proxy.heal()


@contextmanager
def loading(stage: Stage) -> Iterator[None]:
    """Answer as a Redis that loads its file."""
    stage.proxy.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
    yield
    stage.proxy.answer(None)


@pytest.mark.parametrize("state", [full, at_maxclients, read_only, slow, away, loading])
def test_connections_are_bounded_and_a_job_is_answered_when_the_state_ends(
    stage: Stage, state: Callable[[Stage], AbstractContextManager[None]]
) -> None:
    # The consumers take the job while Redis is in the state.
    stage.signal_consumers(signal.SIGSTOP)
    with Client(stage.url) as client:
        job_id, batch_id = client.caption(IMAGE).id, client.submit_batch([IMAGE]).id
    with state(stage):
        stage.signal_consumers(signal.SIGCONT)
        counts, end = [], time.monotonic() + STATE_S
        while time.monotonic() < end:
            counts.append(stage.proxy.connections)
            time.sleep(0.1)
    with Client(stage.url) as client:
        client.job(job_id).result(timeout=60)
        assert len(list(client.batch(batch_id).results(timeout=60))) == 1
    assert max(counts) <= MAX_CONNECTIONS, counts
    wait_until(lambda: stage.proxy.connections <= MAX_CONNECTIONS, "few connections")
    wait_until(lambda: not stage.redis.exists("unacked"), "all acknowledgements")
    assert sorted(processes_of(stage.run_dir)) == stage.processes
