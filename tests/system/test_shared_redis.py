"""Redis as operators run it: shared, behind TLS and passwords, watched by Sentinel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from config.settings import NULL_MODEL
from demo.scenes import draw, random_scene
from demo.stack import running_redis, running_worker
from producer import Batch, Client, ConnectionFailed, State
from producer.ledger.keys import Keys
from producer.settings import ClientSettings
from tests.echo_worker import ENVIRONMENT, SIDE, answer_to
from tests.flower.api import running_api
from tests.redis_servers import running_sentinels, wait_until
from tests.tls import running_tls

#: ACL rules of a deployment beside its keys. All channels: Redis compares the pattern that kombu
#: subscribes to with the rule literally.
ACL = ("&*", "+@all", "-@dangerous")
#: No model: each answer is the item's id.
NULL = {"BLIPLINE_MODEL": NULL_MODEL}
#: A chunk at a time: a batch lasts long enough to be hit.
SLOW = {
    **NULL,
    "BLIPLINE_BULK_SLOTS": "1",
    "BLIPLINE_LEASE_S": "2",
    "BLIPLINE_SWEEP_S": "1",
}
IMAGE = "https://images.example.com/a.png"
ITEMS = 150


@pytest.fixture
def own_redis() -> Iterator[str]:
    """A Redis for one test alone."""
    with running_redis() as url:
        yield url


def add_user(server: redis.Redis, name: str, password: str, *rules: str) -> None:
    server.execute_command("ACL", "SETUSER", name, "on", f">{password}", *rules)


def name_items(count: int) -> list[dict[str, object]]:
    return [{"image": IMAGE, "custom_id": f"item {number}"} for number in range(count)]


def test_two_deployments_in_one_database_do_not_see_each_others_work(
    own_redis: str, tmp_path: Path
) -> None:
    """Each has a Redis user that may use only keys of its own prefix; the second one's is behind
    TLS.
    """
    picture, items = draw(random_scene(Random(3)), SIDE, SIDE), name_items(8)
    port = int(own_redis.rpartition(":")[2].partition("/")[0])
    with (
        redis.Redis.from_url(f"redis://127.0.0.1:{port}/3") as server,
        running_tls(port, tmp_path) as (front, ca),
    ):
        add_user(server, "one", "secret", "~one:*", *ACL)
        add_user(server, "two", "p@ss/w%rd", "~two:*", *ACL)
        # No other user has access.
        server.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        urls = {
            "one": f"redis://one:secret@127.0.0.1:{port}/3",
            "two": f"rediss://two:p%40ss%2Fw%25rd@localhost:{front}/3?ssl_ca_certs={ca}",
        }
        environments, clients = [], []
        for name, url in urls.items():
            environments.append({"BLIPLINE_REDIS_URL": url, "BLIPLINE_KEY_PREFIX": f"{name}:"})
            clients.append(Client(settings=ClientSettings(redis_url=url, key_prefix=f"{name}:")))
        with clients[0] as first, clients[1] as second:
            # With an engine, which uses the keys of images and of the result cache, too.
            with running_worker(own_redis, {**environments[0], **ENVIRONMENT}):
                jobs = [first.caption(picture) for _ in range(3)]
                batch = second.submit_batch(items, chunk_items=4)
                assert [job.result(timeout=60) for job in jobs] == [answer_to(picture)] * 3
                assert batch.progress().done == 0
                assert second.job(jobs[0].id).status() == State.UNKNOWN
            assert all(key.startswith((b"one:", b"two:")) for key in server.scan_iter())
            assert server.keys(Keys("one:").cached_result("*"))
            with running_worker(own_redis, {**environments[1], **NULL}):
                texts = [result.text for result in batch.results(timeout=60)]
                assert texts == [item["custom_id"] for item in items]
        assert all(key.startswith((b"one:", b"two:")) for key in server.scan_iter())
        assert server.info("keyspace").keys() == {"db3"}


def test_flower_counts_the_waiting_jobs_of_its_own_deployment(
    own_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_KEY_PREFIX", "one:")
    with (
        Client(settings=ClientSettings(redis_url=own_redis, key_prefix="one:")) as first,
        Client(settings=ClientSettings(redis_url=own_redis, key_prefix="two:")) as second,
        running_api(own_redis) as flower,
    ):
        for client, count in ((first, 3), (second, 5)):
            for _ in range(count):
                client.caption(IMAGE)
        assert flower.waiting() == {"interactive": 3, "bulk": 0, "celery": 0}


def test_the_error_of_an_unknown_authority_names_the_setting(
    own_redis: str, tmp_path: Path
) -> None:
    port = int(own_redis.rpartition(":")[2].partition("/")[0])
    with running_tls(port, tmp_path) as (front, _), running_tls(front, tmp_path) as (_, other_ca):
        url = f"rediss://localhost:{front}/0?ssl_ca_certs={other_ca}"
        with (
            Client(url) as client,
            pytest.raises(
                ConnectionFailed, match="Does ssl_ca_certs name the authority that signed"
            ),
        ):
            client.job("1").status()


def test_killing_the_master_loses_no_item_and_changes_no_result(tmp_path: Path) -> None:
    items = name_items(ITEMS)
    with (
        running_sentinels(tmp_path, password="p@ss/w%rd") as cluster,
        Client(cluster.url) as client,
        running_worker(cluster.url, SLOW),
    ):
        batch = client.submit_batch(items, chunk_items=1)
        # Submitted jobs are safe as soon as the replica has them.
        with cluster.servers[0].connect() as master:
            assert master.wait(1, 10_000) == 1
        wait_until(lambda: batch.progress().done > 0, "the middle of the batch")
        cluster.servers[0].kill()
        assert texts(batch) == [item["custom_id"] for item in items]
        assert cluster.master() is cluster.servers[1]
        assert batch.progress().done == ITEMS


def texts(batch: Batch) -> list[str | None]:
    """Return the texts; repeat the call while there is no master."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return [result.text for result in batch.results(timeout=60)]
        except ConnectionFailed:
            assert time.monotonic() < deadline
            time.sleep(0.2)
