"""A worker whose log goes nowhere starts and ends as any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from demo.stack import ROOT, running_redis
from producer import Client
from tests.redis_servers import wait_until

#: Far more than an end takes, and far less than GRACE_S.
END_S = 60.0
GRACE_S = 300.0
IMAGE = "https://images.example.com/a.png"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_redis() as url:
        yield url


def start(url: str, run_dir: Path, redirection: str = "") -> subprocess.Popen[bytes]:
    """Start a worker by a shell that redirects its output."""
    settings = {
        "BLIPLINE_REDIS_URL": url,
        "BLIPLINE_RUN_DIR": str(run_dir),
        "BLIPLINE_MODEL": "null",
        "BLIPLINE_GRACE_S": f"{GRACE_S:g}",
    }
    return subprocess.Popen(
        ["sh", "-c", f'exec "{sys.executable}" -m worker {redirection}'],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], number: int, url: str, ready: Path) -> None:
    """Check that the worker answers a job, and that a signal ends it in time."""
    try:
        wait_until(ready.exists, "readiness", 120)
        with Client(url) as client:
            client.caption(IMAGE).result(timeout=60)
        process.send_signal(number)
        assert process.wait(END_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.exhaustive
def test_a_worker_without_a_log_ends_on_sigterm(url: str, tmp_path: Path) -> None:
    end(start(url, tmp_path, ">/dev/full 2>&-"), signal.SIGTERM, url, tmp_path / "ready")


@pytest.mark.exhaustive
def test_a_worker_whose_reader_has_gone_ends_on_ctrl_c(url: str, tmp_path: Path) -> None:
    process = start(url, tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    end(process, signal.SIGINT, url, tmp_path / "ready")


def test_a_worker_whose_reader_stands_still_ends_on_sigterm(url: str, tmp_path: Path) -> None:
    process = start(url, tmp_path)
    assert process.stdout is not None
    wait_until((tmp_path / "ready").exists, "readiness", 120)
    # Fill the pipe: nobody reads it any more.
    writer = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 512)
    finally:
        os.close(writer)
    end(process, signal.SIGTERM, url, tmp_path / "ready")


def test_a_consumer_with_another_pool_does_not_start(url: str, tmp_path: Path) -> None:
    settings = {"BLIPLINE_REDIS_URL": url, "BLIPLINE_RUN_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-P", "solo"],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "the pool solo does not work" in done.stderr
    assert "-P threads" in done.stderr
    assert "Traceback" not in done.stderr
