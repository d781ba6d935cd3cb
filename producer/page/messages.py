"""Error messages that the page shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Final

import gradio as gr

from ..errors import (
    BliplineError,
    ConnectionFailed,
    InvalidInput,
    JobCancelled,
    JobFailed,
    QueueFull,
    StorageQuotaExceeded,
)
from .options import with_labels

_log = logging.getLogger(__name__)

#: Remarks for operators: the name of a setting in parentheses, or in a clause of its own.
_REMARK: Final = re.compile(r" \([^()]*\bBLIPLINE_[^()]*\)")
_CLAUSE_END: Final = re.compile(r"(?<=[;:.])\s+")


@contextmanager
def errors_on_page() -> Iterator[None]:
    """Convert exceptions of the block to gr.Error; log unexpected exceptions."""
    try:
        yield
    except gr.Error:
        raise
    except BliplineError as error:
        raise page_error(message_of(error)) from None
    except Exception:
        _log.exception("the page: unexpected error")
        raise page_error("An internal error occurred. The gateway's log has the details.") from None


def page_error(message: str) -> gr.Error:
    """Return an error that shows a message as text; gr.Error itself expects HTML."""
    return gr.Error(escape(message), print_exception=False)


def message_of(error: BliplineError) -> str:
    """Return the message of a client error for a visitor."""
    if isinstance(error, StorageQuotaExceeded):
        return "Your images and results have used up your storage quota: try again later."
    if isinstance(error, QueueFull):
        return "The queue is full: try again later."
    if isinstance(error, ConnectionFailed):
        # The error's own message may contain the server's name.
        return "The queue is unavailable: try again later."
    if isinstance(error, JobCancelled):
        return "The job was cancelled."
    if isinstance(error, JobFailed | InvalidInput):
        return as_sentence(error.message if isinstance(error, JobFailed) else str(error))
    return str(error)


def as_sentence(message: str) -> str:
    """Return a message with the page's labels, without settings, and punctuated as a sentence."""
    message = with_labels(_without_settings(message))
    if "://" not in message.partition(" ")[0]:
        message = message[:1].upper() + message[1:]
    return message + ("" if message.endswith((".", "?")) else ".")


def _without_settings(message: str) -> str:
    """Remove the names of settings, which a visitor cannot change."""
    clauses = _CLAUSE_END.split(_REMARK.sub("", message))
    rest = " ".join(clause for clause in clauses if "BLIPLINE_" not in clause).rstrip(";: ")
    return rest or "the settings of this service do not allow it"
