"""The program: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from .batch import batch
from .caption import ask, caption
from .chat import chat
from .dead import dead
from .exit_codes import EXIT_HELP, Exit, report
from .gateway import gateway
from .keys import keys
from .match import embed, match


def _version() -> str:
    try:
        return importlib.metadata.version("blipline")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


@click.group(epilog=EXIT_HELP, context_settings={"max_content_width": 100})
@click.version_option(_version(), prog_name="blipline")
def blipline() -> None:
    """Captions, answers, matches and embeddings of images, from the workers of a Blipline Redis.

    Data goes to stdout, notes and progress to stderr. BLIPLINE_REDIS_URL says which Redis.

    \b
      blipline caption cat.jpg
      blipline ask cat.jpg "how many cats are there?"
      blipline chat cat.jpg
      blipline match cat.jpg "a cat" "a dog"
      blipline embed cat.jpg --json
      blipline batch submit items.jsonl --wait -o results.jsonl
      blipline dead list
      blipline keys create acme
      blipline gateway
    """


for _command in (caption, ask, chat, match, embed, batch, dead, keys, gateway):
    blipline.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; no traceback ever reaches the user."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = blipline.main(arguments, prog_name="blipline", standalone_mode=False)
        return int(code or Exit.OK)
    except (Exception, KeyboardInterrupt) as error:
        return int(report(error))


def _terminate(*_: object) -> NoReturn:
    """Unwind, so that no half-written file is left behind."""
    sys.exit(Exit.TERMINATED)
