"""A real S3 server on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

import httpx
import pytest

from demo.stack import free_port

#: What a message must never show.
SECRET = "a-secret-key"


@contextmanager
def running_s3(objects: Mapping[str, bytes]) -> Iterator[str]:
    """Run a server with these objects in the bucket `bucket`; yield its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            _create_bucket(address)
            _put(address, objects)
            yield address
        finally:
            process.terminate()


def use_s3(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let S3 clients of this process use the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)


def _put(address: str, objects: Mapping[str, bytes]) -> None:
    """Store objects in the bucket, by their keys."""
    with httpx.Client(trust_env=False) as client:
        for key, data in objects.items():
            raw_path = quote(f"/bucket/{key}", safe="/").encode()
            path = httpx.URL(address).copy_with(raw_path=raw_path)
            client.put(path, content=data).raise_for_status()


def _create_bucket(address: str) -> None:
    """Create the bucket as soon as the server listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.put(f"{address}/bucket", trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
