"""A worker holds few connections in every state of Redis, and recovers when the state ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import pytest

from demo.stack import free_port
from producer import Client
from tests.redis_servers import wait_until
from tests.system.null_worker import NullWorker

#: Maximum connections of two consumers with two slots each; at rest they hold 14.
MAX_CONNECTIONS: Final = 30
#: Seconds in a state: enough attempts to connect again to exceed the maximum if each left one.
STATE_S: Final = 2.0
IMAGE = "https://images.example.com/a.png"


@contextmanager
def full(null_worker: NullWorker) -> Iterator[None]:
    null_worker.redis.config_set("maxmemory", 1)
    yield
    null_worker.redis.config_set("maxmemory", 0)


@contextmanager
def at_maxclients(null_worker: NullWorker) -> Iterator[None]:
    """Close the worker's connections, and refuse new ones."""
    null_worker.redis.config_set("maxclients", 1)
    for kind in ("normal", "pubsub"):
        null_worker.redis.client_kill_filter(_type=kind, skipme=True)
    yield
    null_worker.redis.config_set("maxclients", 10_000)


@contextmanager
def read_only(null_worker: NullWorker) -> Iterator[None]:
    """Make Redis a replica whose master is away."""
    null_worker.redis.replicaof("127.0.0.1", str(free_port()))
    yield
    null_worker.redis.replicaof("NO", "ONE")


@contextmanager
def slow(null_worker: NullWorker) -> Iterator[None]:
    null_worker.redis.client_pause(int(1000 * STATE_S), all=True)
    yield


@contextmanager
def away(null_worker: NullWorker) -> Iterator[None]:
    null_worker.proxy.partition()
    null_worker.proxy.reset_all()
    yield
    null_worker.proxy.heal()


@contextmanager
def loading(null_worker: NullWorker) -> Iterator[None]:
    """Answer as a Redis that loads its file."""
    null_worker.proxy.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
    yield
    null_worker.proxy.answer(None)


@pytest.mark.parametrize("state", [full, at_maxclients, read_only, slow, away, loading])
def test_connections_are_bounded_and_a_job_is_answered_when_the_state_ends(
    null_worker: NullWorker, state: Callable[[NullWorker], AbstractContextManager[None]]
) -> None:
    # The consumers take the job while Redis is in the state.
    null_worker.signal_consumers(signal.SIGSTOP)
    with Client(null_worker.url) as client:
        job_id, batch_id = client.caption(IMAGE).id, client.submit_batch([IMAGE]).id
    with state(null_worker):
        null_worker.signal_consumers(signal.SIGCONT)
        counts, end = [], time.monotonic() + STATE_S
        while time.monotonic() < end:
            counts.append(null_worker.proxy.connections)
            time.sleep(0.1)
    with Client(null_worker.url) as client:
        client.job(job_id).result(timeout=60)
        assert len(list(client.batch(batch_id).results(timeout=60))) == 1
    assert max(counts) <= MAX_CONNECTIONS, counts
    wait_until(lambda: null_worker.proxy.connections <= MAX_CONNECTIONS, "few connections")
    wait_until(lambda: not null_worker.redis.exists("unacked"), "all acknowledgements")
    null_worker.check_processes()
