"""One worker without a model for the tests after which it still runs, the same processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis

from demo.stack import running_redis, running_worker
from tests.faults.processes import processes_of, send
from tests.faults.proxy import Proxy, running_proxy

#: Fewer slots than malformed messages: a message that kept its slot would end the service.
SETTINGS: Final = {
    "BLIPLINE_MODEL": "null",
    "BLIPLINE_BULK_SLOTS": "2",
    "BLIPLINE_INTERACTIVE_SLOTS": "2",
    "BLIPLINE_LEASE_S": "2",
    "BLIPLINE_SWEEP_S": "1",
}


@dataclass(frozen=True)
class NullWorker:
    """A worker, its Redis, and a proxy between them that counts connections."""

    redis: redis.Redis
    url: str
    proxy: Proxy
    run_dir: Path
    processes: list[int]

    def signal_consumers(self, number: int) -> None:
        """Signal both consumers."""
        for role in ("interactive", "bulk"):
            send(processes_of(self.run_dir, role), number)

    def check_processes(self) -> None:
        """Check that no process has been restarted."""
        assert sorted(processes_of(self.run_dir)) == self.processes


@pytest.fixture(scope="package")
def null_worker() -> Iterator[NullWorker]:
    """A worker and its Redis."""
    with ExitStack() as stack:
        url = stack.enter_context(running_redis())
        proxy = stack.enter_context(running_proxy(int(url.rpartition(":")[2].partition("/")[0])))
        tree = stack.enter_context(running_worker(proxy.url, SETTINGS))
        connection = stack.enter_context(redis.Redis.from_url(url))
        yield NullWorker(connection, url, proxy, tree.run_dir, sorted(processes_of(tree.run_dir)))
