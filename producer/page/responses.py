"""Why a request of the page was not taken, as Gradio's scripts read it."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

#: What Gradio's scripts call a gateway that cannot be reached. They look for it then, say so once,
#: and load the page anew when it answers: so whoever must sign in comes to the form.
_LOST: Final = "Connection errored out. "


def refused(status: int, reason: str) -> Response:
    """The page shows the reason."""
    return JSONResponse({"detail": reason, "error": reason}, status)


def signed_out() -> Response:
    """The page reloads, which leads to the form."""
    return JSONResponse({"detail": "sign in: reload the page", "error": _LOST}, 401)


NOT_FOUND: Final = refused(404, "there is no such thing here")
