"""Tasks of the Hugging Face Inference API at /hf, for `huggingface_hub.InferenceClient`.

Its routes translate requests to jobs of the gateway: the same limits and errors. It needs the extra
`gateway`; docs/clients.md lists its tasks and parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Add the routes to a gateway; call it before the gateway starts."""
    from ..gateway.http.error_format import ErrorFormatMiddleware
    from . import routes
    from .errors import PREFIX, convert_error

    app.router.routes.extend(routes.router.routes)
    # The outermost one, so that it receives the errors of all others.
    app.add_middleware(ErrorFormatMiddleware, prefix=PREFIX, convert=convert_error)
