"""`python -m demo`: the real system on the sample pictures; `python -m demo up` keeps it running.

Uses the Redis of BLIPLINE_REDIS_URL where that is set, a private one otherwise. Exit codes: 0 all
right, 1 an item or a part of the system failed, 130 interrupted.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console
from rich.table import Table

from config.settings import WorkerSettings
from demo import contact_sheet
from demo.stack import (
    StackError,
    free_port,
    running_flower,
    running_gateway,
    running_redis,
    running_worker,
)
from demo.tour import QUESTIONS, Check, Tour, pictures, take, wording
from producer import BliplineError, Client
from producer.cli.progress import progress_bar
from producer.connection.connect import connect, redis_errors
from producer.gateway.access.api_keys import ApiKeys, key_id_of
from producer.ledger.keys import Keys

SHEET: Final = Path(__file__).with_name("out") / "index.html"
#: The usual ports.
REDIS_PORT: Final = 6379
FLOWER_PORT: Final = 5555
GATEWAY_PORT: Final = 8000
#: The user of the page, of the API key on the terminal, and of Flower.
NAME: Final = "demo"

#: Notes on the way; results go to stdout.
notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """Run the demo, or keep its system running."""
    parser = ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=["run", "up"], default="run")
    command = parser.parse_args().command
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return run() if command == "run" else up()
    except (StackError, BliplineError) as error:
        notes.print(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        # For `up` it is the way to end.
        return 0 if command == "up" else 130


def run() -> int:
    """Caption the sample pictures, ask about them, check the captions, and show the results."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(_redis(None))
        notes.print("starting Flower")
        flower = stack.enter_context(_flower(redis_url))
        notes.print(f"Flower: {flower} (while this runs; `make up` keeps it)")
        notes.print("starting a worker")
        stack.enter_context(running_worker(redis_url, quiet=True))
        images, checked = pictures(), WorkerSettings.load().match_model_path() is not None
        with (
            Client(redis_url) as client,
            progress_bar("answering", len(images) * (1 + len(QUESTIONS) + checked)) as on_done,
        ):
            tour = take(client, images, on_done, checked=checked)
    contact_sheet.write(tour, SHEET)
    _show(tour)
    return 1 if tour.failed else 0


def up() -> int:
    """Keep Redis, a worker, the gateway and Flower running until a signal ends them."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(_redis(_port(REDIS_PORT)))
        notes.print("starting Flower, the gateway and a worker")
        flower = stack.enter_context(_flower(redis_url, _port(FLOWER_PORT)))
        opened = {"BLIPLINE_PAGE_OPEN_AS": NAME}
        gateway = stack.enter_context(running_gateway(redis_url, _port(GATEWAY_PORT), opened))
        key = stack.enter_context(_api_key(redis_url))
        worker = stack.enter_context(running_worker(redis_url))
        picture = _shown(pictures()[0])
        notes.print(
            f"\nPage:   {gateway}/ui\nHTTP:   {gateway}\nRedis:  {redis_url}\nFlower: {flower}\n\n"
            "In another shell:\n"
            f"  export BLIPLINE_REDIS_URL={redis_url}\n"
            f"  .venv/bin/blipline caption {picture}\n"
            f"  export BLIPLINE_GATEWAY={gateway} BLIPLINE_API_KEY={key}\n"
            f"  examples/curl.sh {picture}\n\n"
            "Ctrl-C ends everything.\n"
        )
        raise StackError(f"the worker ended with exit code {worker.process.wait()}", worker.process)


@contextmanager
def _api_key(redis_url: str) -> Iterator[str]:
    """Make a key that is valid until the block ends."""
    with redis_errors(redis_url), connect(redis_url) as connection:
        keys = ApiKeys(connection, Keys(WorkerSettings.load().key_prefix))
        key = keys.create(NAME)
        try:
            yield key
        finally:
            keys.revoke(key_id_of(key) or "")


@contextmanager
def _flower(redis_url: str, port: int | None = None) -> Iterator[str]:
    """Run Flower; yield its address, with a random login unless the user has set one."""
    login = "" if os.environ.get("BLIPLINE_FLOWER_AUTH") else f"{NAME}:{secrets.token_urlsafe(9)}"
    settings = {"BLIPLINE_FLOWER_AUTH": login} if login else {}
    with running_flower(redis_url, port, settings) as address:
        yield address.replace("://", f"://{login}@") if login else address


def _redis(port: int | None) -> AbstractContextManager[str]:
    url = os.environ.get("BLIPLINE_REDIS_URL")
    if not url:
        return running_redis(port)
    # An unreachable Redis is an error at once, not after the time that a worker has to start.
    with redis_errors(url), connect(url) as connection:
        connection.ping()
    return nullcontext(url)


def _port(preferred: int) -> int:
    """Return this port if it is free, else any free port."""
    with socket.socket() as probe:
        # Connections of a server that has just ended do not matter to the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
    return preferred


def _show(tour: Tour) -> None:
    table = Table("picture", "caption", *QUESTIONS)
    if any(report.check is not None for report in tour.reports):
        table.add_column("P(match)")
    for report in tour.reports:
        verdicts = [] if report.check is None else [_verdicts(report.check)]
        answers = map(wording, report.answers)
        table.add_row(report.image.name, wording(report.caption), *answers, *verdicts)
    out = Console(highlight=False, markup=False)
    out.print(table)
    pace = f"{tour.items / tour.seconds:,.0f} items a second"
    out.print(f"{tour.items} items in {tour.seconds:.2f} s: {pace}")
    if tour.failed:
        out.print(f"{tour.failed} items failed")
    out.print(f"contact sheet: {_shown(SHEET)}", soft_wrap=True)


def _verdicts(check: Check) -> str:
    """Write a line for the caption's color, and a line for a color that is not there."""
    if not check.result.ok:
        return wording(check.result)
    return "\n".join(f"{probability:.3f} {color}" for color, probability in check.verdicts)


def _shown(path: Path) -> str:
    """Write a path relative to the working directory."""
    return os.path.relpath(path)


def _interrupt(*_: object) -> NoReturn:
    """End the parts in order; a second Ctrl-C must not leave one of them behind."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
