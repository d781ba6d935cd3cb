"""The keeper of a local Redis and worker: `python keeper.py CONFIGURATION`.

It runs as a process of its own, with the standard library and redis-py only. It ends both when its
standard input ends, so also after a kill -9 of the command, and restarts each if it dies. On stdout
it prints `note` for each warning of the worker until it is ready, then `ready` once, or `failed`
with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

#: Seconds for a process to come up: importing torch from a cold disk takes most of it.
START_S: Final = 300.0
STOP_S: Final = 10.0
POLL_S: Final = 0.1
#: Deaths of one process within `STEADY_S` of its start that end the keeper.
MAX_DEATHS: Final = 5
STEADY_S: Final = 20.0
#: Last lines of a log that the error of a failed start quotes if it has no warning.
QUOTED_LINES: Final = 15
#: The worker's log lines that become notes, for people: time, level, process, logger and message.
_WARNING: Final = re.compile(r"\S+ (?:WARNING|ERROR|CRITICAL) \S+\[\d+\] \S+: (.*)")
#: PR_SET_PDEATHSIG of Linux.
_DEATH_SIGNAL: Final = 1


class StartFailed(Exception):
    """A process that does not come up; the message quotes its output."""


class Service:
    """A process that the keeper restarts when it dies."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path):
        self.name = name
        self._log_offset = 0
        self._command = command
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0

    def start(self) -> None:
        """Start the process; the kernel ends it with the keeper (Linux)."""
        self._started = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for the process to be ready; raises StartFailed."""
        assert self._process is not None
        while not is_ready():
            self._note_warnings()
            if self._process.poll() is not None:
                raise self._failure(f"ended with exit code {self._process.returncode}")
            if time.monotonic() > self._started + START_S:
                raise self._failure(f"is not ready after {START_S:g} s")
            if _parent_is_gone(POLL_S):
                raise StartFailed("the command has ended")

    def restart_if_dead(self) -> None:
        """Restart the process if it died; raises StartFailed if it does so repeatedly."""
        if self._process is None or self._process.poll() is None:
            return
        steady = time.monotonic() > self._started + STEADY_S
        self._deaths = 1 if steady else self._deaths + 1
        if self._deaths > MAX_DEATHS:
            raise self._failure(f"died {self._deaths} times in a row")
        self.start()

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _note_warnings(self) -> None:
        """Print the warnings that the process has logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            lines, end, _ = log.read().rpartition(b"\n")
        self._log_offset += len(lines) + len(end)
        for line in lines.decode(errors="replace").splitlines():
            if warning := _WARNING.match(line):
                _print("note", warning[1])

    def _failure(self, event: str) -> StartFailed:
        self._note_warnings()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        if any(map(_WARNING.match, lines)):
            return StartFailed(f"{self.name} {event}")
        return StartFailed("\n".join([f"{self.name} {event}", *lines[-QUOTED_LINES:]]))


def main() -> int:
    """Keep Redis and a worker running until standard input ends."""
    configuration: dict[str, Any] = json.loads(sys.argv[1])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # A short path: that of a Unix socket may have some hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="blipline-") as directory:
        try:
            _keep(configuration, Path(directory))
        except StartFailed as error:
            _print("failed", str(error))
            return 1
    return 0


def _keep(configuration: Mapping[str, Any], directory: Path) -> None:
    import redis

    password = secrets.token_urlsafe(24)
    port = int(configuration["port"])
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    # In a file: arguments of a process are public.
    settings = directory / "redis.conf"
    settings.touch(0o600)
    settings.write_text(
        f'port {port}\nbind 127.0.0.1\nrequirepass "{password}"\ndir "{directory}"\n'
        'appendonly no\nsave ""\nmaxmemory-policy noeviction\n'
        "lazyfree-lazy-expire yes\nlazyfree-lazy-server-del yes\n"
    )
    run_dir = directory / "worker"
    run_dir.mkdir(mode=0o700)
    environment = {
        **os.environ,
        **configuration["environment"],
        "BLIPLINE_REDIS_URL": url,
        "BLIPLINE_RUN_DIR": str(run_dir),
        # Its warnings become notes of the command.
        "BLIPLINE_LOG_FORMAT": "human",
    }
    command = [configuration["redis_server"], str(settings)]
    server = Service("redis-server", command, os.environ, directory / "redis.log")
    command = [sys.executable, "-m", "worker"]
    worker = Service("the worker", command, environment, directory / "worker.log")
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.start()
        with redis.Redis.from_url(url) as client:
            server.wait_until(lambda: _answers(client))
            stack.callback(worker.stop)
            worker.start()
            worker.wait_until((run_dir / "ready").exists)
            _print("ready", url)
            while not _parent_is_gone(POLL_S):
                server.restart_if_dead()
                worker.restart_if_dead()


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except Exception:
        return False


def _parent_is_gone(timeout_s: float) -> bool:
    """Wait for the end of standard input, at most that long."""
    readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(readable) and os.read(sys.stdin.fileno(), 1) == b""


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _end(*_: object) -> None:
    raise SystemExit(0)


def _print(word: str, text: str) -> None:
    print(json.dumps([word, text]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
