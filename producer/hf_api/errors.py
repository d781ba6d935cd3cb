"""Errors in the form of the Hugging Face Inference API: a JSON object with `error`."""

from __future__ import annotations

from typing import Final

from ..gateway.http.error_format import ErrorResponse
from ..gateway.http.problems import Problem

#: Beginning of the paths of this API.
PREFIX: Final = "/hf/"


def convert_error(status: int, code: str, detail: str) -> ErrorResponse:
    """Return the error for a problem, for ErrorFormatMiddleware."""
    # The library shows the header of a 403, and otherwise omits equal messages.
    in_header = detail.isascii() and detail.isprintable()
    headers = {"X-Error-Message": detail} if in_header else {}
    return ErrorResponse(status, {"error": detail, "error_type": code}, headers)


def invalid(name: str, reason: str) -> Problem:
    """Return the error for a field of a request."""
    return Problem("option_invalid", f"{name:.100}: {reason}")
