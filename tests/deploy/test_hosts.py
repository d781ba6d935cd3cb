"""Many machines: a host is lost in the middle of a batch, and the others complete it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from config.settings import NULL_MODEL
from demo.stack import ROOT, redis_server
from producer.gateway.access.api_keys import ApiKeys
from tests.deploy.hosts import Host, NoNamespaces, network_of
from tests.redis_servers import wait_until

#: Enough for the loss to be in the middle of the work.
ITEMS = 12_000
PASSWORD = "s3cret"
#: Seconds for a process to start on a busy machine.
START_S = 120.0


@dataclass(frozen=True)
class Cluster:
    """A Redis host, a gateway host, two worker hosts, and the host of a producer."""

    gateway: Host
    workers: list[Host]
    producer: Host
    key: str

    def http(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        """Send a request from the producer's host to the gateway."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/jsonl"}
        url = f"http://{self.gateway.address}:8000{path}"
        return self.producer.call(
            lambda: httpx.request(method, url, content=content, headers=headers, timeout=120)
        )

    def alive(self) -> int:
        """Return the number of workers that the gateway knows to be alive."""
        return int(self.http("GET", "/readyz").json()["workers"])


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        try:
            hosts = stack.enter_context(network_of("redis", "gateway", "a", "b", "producer"))
        except NoNamespaces as error:
            pytest.skip(f"network namespaces cannot be made: {error}")
        store, gateway, *workers, producer = hosts
        options = ["--bind", store.address, "--requirepass", PASSWORD, "--dir", str(directory)]
        server = [redis_server(), str(ROOT / "config" / "redis.conf"), *options]
        stack.enter_context(store.running(server, {}))
        settings = {
            "BLIPLINE_REDIS_URL": f"redis://:{PASSWORD}@{store.address}:6379/0",
            "BLIPLINE_MODEL": NULL_MODEL,
            "BLIPLINE_LEASE_S": "2",
            "BLIPLINE_SWEEP_S": "1",
        }
        with redis.Redis(store.address, password=PASSWORD) as connection:
            wait_until(lambda: producer.call(lambda: answers(connection)), "Redis", START_S)
            key = producer.call(lambda: ApiKeys(connection).create("acme"))
        for host in workers:
            own = {"BLIPLINE_RUN_DIR": str(directory / host.address)}
            stack.enter_context(host.running([sys.executable, "-m", "worker"], settings | own))
        own = {"BLIPLINE_GATEWAY_HOST": gateway.address, "BLIPLINE_PAGE": "false"}
        command = [sys.executable, "-m", "producer.cli", "gateway", "--port", "8000"]
        stack.enter_context(gateway.running(command, settings | own))
        for host in workers:
            ready = directory / host.address / "ready"
            wait_until(ready.exists, f"the worker on {host.address}", START_S)
        cluster = Cluster(gateway, workers, producer, key)
        wait_until(lambda: serves(cluster), "the gateway with two workers", START_S)
        yield cluster


def answers(connection: redis.Redis) -> bool:
    try:
        return bool(connection.ping())
    except redis.ConnectionError:
        return False


def serves(cluster: Cluster) -> bool:
    try:
        return cluster.alive() == 2
    except (httpx.TransportError, KeyError):
        return False


def test_a_lost_host_costs_no_item_of_a_batch(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        items = (
            {"image": "https://images.example.com/a.png", "custom_id": str(number)}
            for number in range(ITEMS)
        )
        lines = "\n".join(map(json.dumps, items))
        batch = cluster.http("POST", "/v1/batches?task=caption", lines).json()["id"]

        def done() -> int:
            counts = cluster.http("GET", f"/v1/batches/{batch}").json()["request_counts"]
            return int(counts["completed"])

        before = done()
        wait_until(lambda: done() > before, "progress")
        lost, _ = cluster.workers
        lost.unplug()
        assert done() < ITEMS, "the batch ended before the loss: raise ITEMS"
        wait_until(lambda: cluster.alive() == 1, "the gateway that misses a worker")
        wait_until(lambda: done() == ITEMS, "the end of the batch", 240)
        answered = cluster.http("GET", f"/v1/batches/{batch}/results").text.splitlines()
    results = [json.loads(line) for line in answered]
    assert Counter(result["custom_id"] for result in results) == Counter(map(str, range(ITEMS)))
    assert all(result["text"] == result["custom_id"] for result in results)
