"""Fixtures of the examples: the real stack, a web server of pictures, and sites as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Final

import httpx
import pytest
import redis

from demo.stack import ROOT, free_port, running_gateway, running_redis, running_worker
from producer.gateway.access.api_keys import ApiKeys
from tests.examples.front import Files, Front
from tests.serving import serving

EXAMPLES: Final = ROOT / "examples"
IMAGES: Final = ROOT / "demo" / "images"
#: The caption of each picture.
CAPTIONS: Final[dict[str, str]] = {
    name: truth["caption"]
    for name, truth in json.loads((IMAGES / "truth.json").read_text()).items()
}


#: Webhooks may reach this machine; no example uses the page.
GATEWAY_SETTINGS: Final = {"BLIPLINE_WEBHOOK_ALLOW": "127.0.0.1", "BLIPLINE_PAGE": "false"}


@dataclass(frozen=True)
class Stack:
    """The running system: its addresses and the credentials of a shop."""

    redis_url: str
    #: A proxy of the gateway.
    front: Front
    key: str
    webhook_secret: str

    def environment(self) -> dict[str, str]:
        """Return the environment that the examples read."""
        return {
            **os.environ,
            "BLIPLINE_REDIS_URL": self.redis_url,
            "BLIPLINE_GATEWAY": self.front.address,
            "BLIPLINE_API_KEY": self.key,
            "BLIPLINE_WEBHOOK_SECRET": self.webhook_secret,
        }


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """Redis, a worker and a gateway that may reach this machine's own servers."""
    with (
        running_redis() as url,
        running_worker(url, {"BLIPLINE_FETCH_ALLOW": "127.0.0.1"}),
        running_gateway(url, settings=GATEWAY_SETTINGS) as gateway,
        Front(gateway) as front,
        serving(front),
        redis.Redis.from_url(url) as connection,
    ):
        keys = ApiKeys(connection)
        key = keys.create("shop")
        yield Stack(url, front, key, keys.webhook_secrets("shop")[0])


@pytest.fixture(scope="package")
def pictures() -> Iterator[str]:
    """The sample pictures on a web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(IMAGES)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def running_site(command: list[str], environment: dict[str, str], cwd: Path) -> Iterator[str]:
    """A web server that runs until the block is left; ``{port}`` in `command` is its port."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", *(word.format(port=port) for word in command)],
        cwd=cwd,
        env={"SITE_URL": address, **environment, "PYTHONPATH": f"{EXAMPLES}:{cwd}"},
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(address)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not serve")
