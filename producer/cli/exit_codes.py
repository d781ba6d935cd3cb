"""Exit codes, error messages on stderr, and the mapping from exceptions to exit codes."""

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
from .output import StdoutClosed


class Exit(IntEnum):
    """Exit codes of the program."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NO_REDIS = 3
    NO_RESULT = 4
    QUEUE_FULL = 5
    #: EX_SOFTWARE of sysexits.h.
    INTERNAL_ERROR = 70
    INTERRUPTED = 130
    #: 128 + SIGPIPE, the code that a shell reports for a program that this signal ended.
    STDOUT_CLOSED = 141
    #: 128 + SIGTERM.
    TERMINATED = 143


#: For `--help`; the first line keeps click from wrapping the block.
EXIT_HELP = """\b
Exit codes:
  0    success
  1    some items failed; each has an error message
  2    invalid usage or input; nothing was submitted
  3    Redis is unreachable
  4    no result before the timeout
  5    the queue is full; try again later
  70   internal error
  130  interrupted (Ctrl-C)
"""


def report_error(error: BaseException) -> Exit:
    """Print an error message and return the exit code."""
    if isinstance(error, BliplineError):
        warn(str(error))
        return _code_of(error)
    if isinstance(error, click.ClickException):
        error.show()
        return Exit.USAGE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, StdoutClosed):
        return Exit.STDOUT_CLOSED
    if isinstance(error, OSError):
        warn(str(error))
        return Exit.USAGE
    return _report_internal_error(error)


def warn(message: str) -> None:
    """Print a line on stderr, prefixed with the program's name."""
    click.echo(f"blipline: {message}", err=True)


def _code_of(error: BliplineError) -> Exit:
    if isinstance(error, ConnectionFailed):
        return Exit.NO_REDIS
    if isinstance(error, WaitTimeout):
        return Exit.NO_RESULT
    if isinstance(error, QueueFull):
        return Exit.QUEUE_FULL
    return Exit.SOME_FAILED if isinstance(error, JobFailed | JobCancelled) else Exit.USAGE


def _report_internal_error(error: BaseException) -> Exit:
    if os.environ.get("BLIPLINE_DEBUG") == "1":
        traceback.print_exception(error)
    warn(
        f"internal error ({type(error).__name__}: {error}). Please report it with the output of "
        "the same command under BLIPLINE_DEBUG=1"
    )
    return Exit.INTERNAL_ERROR
