"""Error responses in the form that Gradio's scripts read."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

#: The text by which Gradio's scripts recognize a lost connection. They then poll the server, and
#: reload the page when it responds; a signed-out user sees the login form.
_CONNECTION_LOST: Final = "Connection errored out. "


def error_response(status: int, reason: str) -> Response:
    """Return an error response whose reason the page shows."""
    return JSONResponse({"detail": reason, "error": reason}, status)


def signed_out() -> Response:
    """Return a 401 response that makes the page reload and show the login form."""
    return JSONResponse({"detail": "sign in: reload the page", "error": _CONNECTION_LOST}, 401)


NOT_FOUND: Final = error_response(404, "not found")
