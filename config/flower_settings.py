"""The values of Flower's settings: each is checked, and an error ends Flower with one sentence."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import TypeAdapter, ValidationError
from tornado.options import options

from producer.contract import Task

#: The user of a random password.
USER: Final = "blipline"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_SHORT_NAMES: Final = {task.value: task.short for task in Task}


def port(text: str) -> int:
    """Return the port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        _end(f"BLIPLINE_FLOWER_PORT={text!r:.40}: must be a number from 1 to 65535")
    return int(text)


def check_address(address: str, port: int) -> None:
    """End Flower unless it can listen there."""
    try:
        # As Flower does; `localhost` may have two addresses.
        family, kind, protocol, _, target = socket.getaddrinfo(
            address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        _end(
            f"cannot listen on {address[:80] or '*'}:{port}: {reason}; "
            "set BLIPLINE_FLOWER_ADDRESS and BLIPLINE_FLOWER_PORT"
        )


def logins(text: str, address: str, port: int) -> list[str]:
    """Return the logins `user:password`.

    Without any, and without a login by Flower's own options, it is a random one, which is printed.
    """
    if not text:
        own: list[str] = list(options.basic_auth or [])
        return own if own or options.auth else [_random_login(address, port)]
    return [_login(number, login) for number, login in enumerate(text.split(","), 1)]


def _login(number: int, login: str) -> str:
    user, colon, password = login.partition(":")
    name = f"BLIPLINE_FLOWER_AUTH: login {number}"
    if not (user and colon and password):
        _end(f"{name} must be user:password; commas separate logins")
    # Flower compares only ASCII, and a browser sends no control characters.
    if not (login.isascii() and login.isprintable()) or login != login.strip():
        _end(f"{name}: use printable ASCII characters, without spaces around them")
    return login


def _random_login(address: str, port: int) -> str:
    # Flower shows the questions and answers of all jobs, also to other users of this machine.
    if address not in LOOPBACK:
        _end(f"set BLIPLINE_FLOWER_AUTH=user:password to listen on {address or '*'}")
    password = secrets.token_urlsafe(18)
    host = f"[{address}]" if ":" in address else address
    print(
        f"Flower: http://{USER}:{password}@{host}:{port} (random password of this start; "
        "set BLIPLINE_FLOWER_AUTH=user:password to choose one)",
        file=sys.stderr,
        flush=True,
    )
    return f"{USER}:{password}"


def flag(name: str, text: str) -> bool:
    """Return a truth value."""
    try:
        return TypeAdapter(bool).validate_python(text)
    except ValidationError:
        _end(f"{name}={text!r:.40}: must be true or false")


def database(text: str) -> str:
    """Return the path of the database; Flower ends unless it can write there."""
    path = Path(text)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f"{path.name}.probe")
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        _end(f"BLIPLINE_FLOWER_DB={text!r:.200}: cannot be written: {reason}")
    return text


def format_task(task: Any) -> Any:
    """Show a task by its short name."""
    task.name = _SHORT_NAMES.get(task.name, task.name)
    return task


def _end(message: str) -> NoReturn:
    sys.exit(f"Flower: {message}")
