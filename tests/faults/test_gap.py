"""The gap of BRPOP: Celery takes a message, and dies before it notes that it did."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from producer import Batch, Client
from tests.faults.cluster import Cluster, running_cluster
from tests.faults.orders import Scene, draw_scenes
from tests.faults.processes import holds, send
from tests.system import reference

#: How kombu notes that it holds a message.
NOTE = b"HSET\r\n$7\r\nunacked\r\n"
LEASE_S, VISIBILITY_TIMEOUT_S = 1, 4
#: Seconds within which a job is found again, and those in which it would have been by far.
FOUND_S, NEVER_S = 60.0, 1.5 * (VISIBILITY_TIMEOUT_S + LEASE_S)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return draw_scenes(tmp_path_factory.mktemp("scenes"), 1)[0]


@contextmanager
def one_worker(**settings: str) -> Iterator[Cluster]:
    settings = {
        "BLIPLINE_LEASE_S": str(LEASE_S),
        "BLIPLINE_VISIBILITY_TIMEOUT_S": str(VISIBILITY_TIMEOUT_S),
        **settings,
    }
    with (
        tempfile.TemporaryDirectory(prefix="blipline-faults-") as directory,
        running_cluster(Path(directory), workers=1, settings=settings) as cluster,
    ):
        yield cluster


def lose_in_the_gap(cluster: Cluster, client: Client, scene: Scene) -> Batch:
    """A batch whose only message was taken from its queue, by a consumer that is dead."""
    (worker,) = cluster.workers
    assert worker.proxy is not None
    worker.proxy.freeze_when(NOTE)
    batch = client.submit_batch([scene.data])
    assert worker.proxy.froze.wait(30), "no consumer took the message"
    victims = send(worker.pids("bulk"), signal.SIGKILL)
    assert len(victims) == 1
    # What the dead consumer was about to say never arrives.
    worker.proxy.reset_all()
    with cluster.connect() as connection:
        assert connection.llen("bulk") == 0
        assert not connection.exists("unacked")
    assert not batch.progress().finished
    # Another consumer is there, and has nothing to do.
    assert holds(lambda: bool(worker.pids("bulk")), 30)
    worker.wait_ready()
    return batch


def test_a_message_lost_between_being_taken_and_being_noted_is_found_again(scene: Scene) -> None:
    with one_worker() as cluster, Client(cluster.producer_url) as client:
        batch = lose_in_the_gap(cluster, client, scene)
        (result,) = batch.results(timeout=FOUND_S)
        assert result.text == scene.caption


def test_without_the_sweeper_it_would_be_lost(scene: Scene) -> None:
    with one_worker(BLIPLINE_SWEEP_S="0") as cluster, Client(cluster.producer_url) as client:
        batch = lose_in_the_gap(cluster, client, scene)
        time.sleep(NEVER_S)
        assert batch.progress().done == 0
        # It is the sweeper that makes the difference: others' work is done.
        other = client.caption(scene.data, "a")
        assert other.result(timeout=60) == reference.caption(Image.open(scene.path), "a")
        assert batch.progress().done == 0
