"""Errors as sentences for whoever looks at the page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from ..errors import (
    BliplineError,
    ConnectionFailed,
    InvalidInput,
    JobCancelled,
    JobFailed,
    QueueFull,
)
from .options import labelled

_log = logging.getLogger(__name__)


@contextmanager
def shown_as_error() -> Iterator[None]:
    """What goes wrong inside is shown on the page; what nobody expected goes to the log."""
    try:
        yield
    except gr.Error:
        raise
    except BliplineError as error:
        raise problem(capitalize(error)) from None
    except Exception:
        _log.exception("the page: unexpected error")
        raise problem("Something went wrong here. The log of the gateway says what.") from None


def problem(message: str) -> gr.Error:
    """An error that the page shows; it takes HTML, and is given text."""
    return gr.Error(escape(message), print_exception=False)


def capitalize(error: BliplineError) -> str:
    """What to say of an error of the client."""
    if isinstance(error, QueueFull):
        return "There is no room in the queue now: try again later."
    if isinstance(error, ConnectionFailed):
        # It may name the server.
        return "The queue cannot be reached now: try again later."
    if isinstance(error, JobCancelled):
        return "It was cancelled."
    if isinstance(error, JobFailed | InvalidInput):
        return as_sentence(error.message if isinstance(error, JobFailed) else str(error))
    return str(error)


def as_sentence(message: str) -> str:
    """A message with a capital letter and a full stop, in the words of the page."""
    message = labelled(message)
    if "://" not in message.partition(" ")[0]:
        message = message[:1].upper() + message[1:]
    return message + ("" if message.endswith((".", "?")) else ".")
