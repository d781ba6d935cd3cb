"""A gateway that is measured: what it holds, and what its answers cost."""

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
from producer.gateway.api_keys import ApiKeys

T = TypeVar("T")

#: What would bound the rate but is not what is measured. The page answers none of these requests.
SETTINGS: Final = {
    "BLIPLINE_GATEWAY_RATE": "0",
    "BLIPLINE_MAX_QUEUED_INTERACTIVE": "0",
    "BLIPLINE_PAGE": "false",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time that something took."""

    gateway: float
    redis: float


class Bench:
    """One gateway, and what is asked of it."""

    def __init__(self, site: Site, process: int, server: redis.Redis, redis_url: str) -> None:
        self.site = site
        self.redis_url = redis_url
        self._process = process
        self._server = server
        headers = {"Authorization": f"Bearer {site.key}"}
        self._gateway = httpx.Client(base_url=site.address, headers=headers, timeout=60)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """How far a batch is; empty where there is none yet."""
        answer = self._gateway.get(f"/v1/batches/{batch_id}")
        found: dict[str, Any] = {} if answer.status_code == 404 else answer.json()
        return found

    def open_jobs(self) -> int:
        """How many have not ended."""
        with Client(self.redis_url) as client:
            return client.depth().items[Queue.INTERACTIVE]

    def delete(self, batch_id: str) -> None:
        """Forget a batch."""
        self._gateway.delete(f"/v1/batches/{batch_id}").raise_for_status()

    def peak_bytes(self) -> int:
        """The gateway's resident memory at its peak so far."""
        status = Path(f"/proc/{self._process}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def costing(self, call: Callable[[], T]) -> tuple[T, Cost]:
        """A result, and the processor time that it took here."""
        gateway, server = cpu_s(self._process), read(self._server).cpu_s
        result = call()
        return result, Cost(cpu_s(self._process) - gateway, read(self._server).cpu_s - server)


@contextmanager
def fresh(url: str, server: redis.Redis) -> Iterator[Bench]:
    """A gateway that has done nothing yet: its memory is that of one phase."""
    server.flushall()
    port, key = free_port(), ApiKeys(server).create("bench")
    with running_gateway(url, port, SETTINGS) as address:
        yield Bench(Site(address, key), gateway_at(port), server, url)
