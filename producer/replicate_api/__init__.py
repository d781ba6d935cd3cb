"""Predictions of the Replicate API at /replicate, for the library `replicate`.

Its routes submit and read jobs of the gateway. Its errors are those of the gateway, because both
have the form of RFC 9457. It needs the extra `gateway`; docs/clients.md describes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Add the routes to a gateway; call it before the gateway starts."""
    from . import files, predictions

    for module in (predictions, files):
        app.router.routes.extend(module.router.routes)
