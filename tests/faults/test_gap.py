"""The gap of BRPOP: a consumer takes a message and dies before it records the message."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import NULL_MODEL
from producer import Batch, Client
from tests.faults.cluster import Cluster, running_cluster
from tests.faults.processes import holds, send

#: A part of the command with which a consumer records an unacknowledged message.
RECORD = b"unacked_index\r\n$7\r\nunacked\r\n"
LEASE_S, VISIBILITY_TIMEOUT_S = 1, 4
#: Maximum seconds until the sweep requeues a job, and a time by far sufficient for it.
REQUEUE_S, NEVER_S = 60.0, 1.5 * (VISIBILITY_TIMEOUT_S + LEASE_S)
ITEM = {"image": "https://images.example.com/a.png", "custom_id": "lost"}


@contextmanager
def single_worker(**settings: str) -> Iterator[Cluster]:
    settings = {
        # A result needs no model, which takes long to start.
        "BLIPLINE_MODEL": NULL_MODEL,
        "BLIPLINE_LEASE_S": str(LEASE_S),
        "BLIPLINE_VISIBILITY_TIMEOUT_S": str(VISIBILITY_TIMEOUT_S),
        **settings,
    }
    with (
        tempfile.TemporaryDirectory(prefix="blipline-faults-") as directory,
        running_cluster(Path(directory), workers=1, settings=settings) as cluster,
    ):
        yield cluster


def lose_in_the_gap(cluster: Cluster, client: Client) -> Batch:
    """Return a batch whose only message a dead consumer has taken from its queue."""
    (worker,) = cluster.workers
    assert worker.proxy is not None
    worker.proxy.freeze_when(RECORD)
    batch = client.submit_batch([ITEM])
    assert worker.proxy.froze.wait(30), "no consumer took the message"
    victims = send(worker.pids("bulk"), signal.SIGKILL)
    assert len(victims) == 1
    # The last command of the dead consumer never arrives.
    worker.proxy.reset_all()
    with cluster.connect() as connection:
        assert connection.llen("bulk") == 0
        assert not connection.exists("unacked")
    assert not batch.progress().finished
    # Another consumer runs, and finds no message.
    assert holds(lambda: bool(worker.pids("bulk")), 30)
    worker.wait_ready()
    return batch


def test_a_message_lost_in_the_gap_is_requeued() -> None:
    with single_worker() as cluster, Client(cluster.producer_url) as client:
        batch = lose_in_the_gap(cluster, client)
        (result,) = batch.results(timeout=REQUEUE_S)
        assert result.text == "lost"


@pytest.mark.exhaustive
def test_without_the_sweep_the_message_stays_lost() -> None:
    with single_worker(BLIPLINE_SWEEP_S="0") as cluster, Client(cluster.producer_url) as client:
        batch = lose_in_the_gap(cluster, client)
        time.sleep(NEVER_S)
        assert batch.progress().done == 0
        # Other jobs are done: only the sweep makes the difference.
        (second,) = client.submit_batch([{**ITEM, "custom_id": "second"}]).results(timeout=60)
        assert second.text == "second"
        assert batch.progress().done == 0
