"""A gateway process under test: its memory and processor time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import redis

from benchmarks.http_load import Site
from benchmarks.processes import cpu_s, gateway_at
from benchmarks.server import read
from demo.stack import free_port, running_gateway
from producer import Client
from producer.contract import Queue
from producer.gateway.access.api_keys import ApiKeys

T = TypeVar("T")

#: Rate and queue limits are off; the page is off because it answers none of these requests.
SETTINGS: Final = {
    "BLIPLINE_GATEWAY_RATE": "0",
    "BLIPLINE_MAX_QUEUED_INTERACTIVE": "0",
    "BLIPLINE_PAGE": "false",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time of gateway and Redis."""

    gateway: float
    redis: float


class Bench:
    """A gateway process, with control requests and measurements."""

    def __init__(self, site: Site, process: int, server: redis.Redis, redis_url: str) -> None:
        self.site = site
        self.redis_url = redis_url
        self._process = process
        self._server = server
        headers = {"Authorization": f"Bearer {site.key}"}
        self._gateway = httpx.Client(base_url=site.address, headers=headers, timeout=60)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch's state; empty if it does not exist yet."""
        answer = self._gateway.get(f"/v1/batches/{batch_id}")
        batch: dict[str, Any] = {} if answer.status_code == 404 else answer.json()
        return batch

    def open_jobs(self) -> int:
        """Return the number of interactive jobs that have not ended."""
        with Client(self.redis_url) as client:
            return client.depth().items[Queue.INTERACTIVE]

    def delete(self, batch_id: str) -> None:
        """Delete a batch."""
        self._gateway.delete(f"/v1/batches/{batch_id}").raise_for_status()

    def peak_bytes(self) -> int:
        """Return the peak of the gateway's resident memory so far."""
        status = Path(f"/proc/{self._process}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def measure_cost(self, call: Callable[[], T]) -> tuple[T, Cost]:
        """Return a call's result and its processor time in gateway and Redis."""
        gateway, server = cpu_s(self._process), read(self._server).cpu_s
        result = call()
        return result, Cost(cpu_s(self._process) - gateway, read(self._server).cpu_s - server)


@contextmanager
def fresh(url: str, server: redis.Redis) -> Iterator[Bench]:
    """Start a new gateway on an empty Redis, so that its memory is that of one phase."""
    server.flushall()
    port, key = free_port(), ApiKeys(server).create("bench")
    with running_gateway(url, port, SETTINGS) as address:
        yield Bench(Site(address, key), gateway_at(port), server, url)
