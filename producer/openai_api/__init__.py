"""The OpenAI-compatible API at /openai/v1, for clients such as the `openai` library.

Its routes translate requests to those of the gateway: the same jobs, limits and errors. It needs
the extra `gateway`; docs/clients.md lists its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Add the routes to a gateway; call it before the gateway starts."""
    from ..gateway.http.error_format import ErrorFormatMiddleware
    from . import batches, chat, embeddings, files, models
    from .errors import PREFIX, OpenAIError, convert_error, error_response

    for module in (chat, embeddings, models, files, batches):
        app.router.routes.extend(module.router.routes)
    app.add_exception_handler(OpenAIError, error_response)
    # The outermost one, so that it receives the errors of all others.
    app.add_middleware(ErrorFormatMiddleware, prefix=PREFIX, convert=convert_error)
