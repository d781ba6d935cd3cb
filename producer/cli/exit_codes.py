"""Exit codes, and which error ends with which."""

from __future__ import annotations

import os
import traceback
from enum import IntEnum

import click

from ..errors import (
    BliplineError,
    ConnectionFailed,
    JobCancelled,
    JobFailed,
    QueueFull,
    WaitTimeout,
)
from .output import ReaderGone


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NO_REDIS = 3
    NO_RESULT = 4
    QUEUE_FULL = 5
    #: What sysexits.h calls EX_SOFTWARE.
    BUG = 70
    INTERRUPTED = 130
    #: 128 + SIGPIPE, as a shell reports a program that the signal ended.
    NO_READER = 141
    #: 128 + SIGTERM.
    TERMINATED = 143


#: For `--help`; the first line keeps click from wrapping the block.
EXIT_HELP = """\b
Exit codes:
  0    all right
  1    some items failed; each says why
  2    wrong usage or input; nothing was submitted
  3    Redis cannot be reached
  4    no result in time
  5    the queue is full; try again later
  70   a bug in blipline
  130  interrupted (Ctrl-C)
"""


def report(error: BaseException) -> Exit:
    """Tell the user what went wrong, in a sentence, and say which code that is."""
    if isinstance(error, BliplineError):
        warn(str(error))
        return _code_of(error)
    if isinstance(error, click.ClickException):
        error.show()
        return Exit.USAGE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, ReaderGone):
        return Exit.NO_READER
    if isinstance(error, OSError):
        warn(str(error))
        return Exit.USAGE
    return _report_bug(error)


def warn(message: str) -> None:
    """A line on stderr that names the program, as its neighbours in a pipeline do."""
    click.echo(f"blipline: {message}", err=True)


def _code_of(error: BliplineError) -> Exit:
    if isinstance(error, ConnectionFailed):
        return Exit.NO_REDIS
    if isinstance(error, WaitTimeout):
        return Exit.NO_RESULT
    if isinstance(error, QueueFull):
        return Exit.QUEUE_FULL
    return Exit.SOME_FAILED if isinstance(error, JobFailed | JobCancelled) else Exit.USAGE


def _report_bug(error: BaseException) -> Exit:
    if os.environ.get("BLIPLINE_DEBUG") == "1":
        traceback.print_exception(error)
    warn(
        f"this is a bug ({type(error).__name__}: {error}). Please report it with what the same "
        "command prints under BLIPLINE_DEBUG=1"
    )
    return Exit.BUG
