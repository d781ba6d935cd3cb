"""The program: its commands, signal handling, and the conversion of errors to exit codes."""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from .annotate import annotate
from .batch import batch
from .capfilt import capfilt
from .caption import ask, caption
from .chat import chat
from .dead import dead
from .describe import describe
from .evaluate import evaluate
from .exit_codes import EXIT_HELP, Exit, report_error
from .gateway import gateway
from .keys import keys
from .match import embed, match
from .search import index, search
from .sheet import compare, sheet
from .status import status
from .up import up
from .webhooks import webhooks


def _version() -> str:
    try:
        return importlib.metadata.version("blipline")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


@click.group(epilog=EXIT_HELP, context_settings={"max_content_width": 100})
@click.version_option(_version(), prog_name="blipline")
def blipline() -> None:
    """Caption and describe images, ask about them, match or search them, through Blipline's queue.

    Data goes to stdout, notes and progress to stderr. BLIPLINE_REDIS_URL selects the Redis server.

    \b
      blipline caption cat.jpg
      blipline ask cat.jpg "how many cats are there?"
      blipline chat cat.jpg
      blipline describe cat.jpg
      blipline match cat.jpg "a cat" "a dog"
      blipline embed cat.jpg --json
      blipline annotate photos/
      blipline index photos
      blipline search "a cat on a sofa"
      blipline capfilt pairs.jsonl -o kept.jsonl
      blipline batch submit items.jsonl --wait -o results.jsonl
      blipline status
      blipline dead list
      blipline keys create acme
      blipline webhooks list acme
      blipline gateway
      blipline up
      blipline sheet results.jsonl
      blipline compare a.jsonl b.jsonl
      blipline evaluate captions references.json results.jsonl
    """


_COMMANDS = (
    *(caption, ask, chat, describe, match, embed, index, search),
    *(annotate, capfilt, batch, evaluate, sheet, compare),
    *(status, dead, keys, webhooks, gateway, up),
)
for _command in _COMMANDS:
    blipline.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors are reported without a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    # Notes of the library, such as that it waits for Redis.
    logging.basicConfig(format="blipline: %(message)s", level=logging.WARNING)
    try:
        code = blipline.main(arguments, prog_name="blipline", standalone_mode=False)
        return int(code or Exit.OK)
    except (Exception, KeyboardInterrupt) as error:
        return int(report_error(error))


def _terminate(*_: object) -> NoReturn:
    """Exit by an exception, so that incomplete output files are deleted."""
    sys.exit(Exit.TERMINATED)
