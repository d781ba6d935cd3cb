"""Gradio's application, mounted in the gateway behind the access gate."""

from __future__ import annotations

from typing import Any, Final

import gradio
from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.routing import Route

from ..gateway.settings import PAGE_PATH
from ..gateway.state import Gateway
from .access import AccessGate
from .batches import download
from .layout import PALETTE, STYLE, build
from .pending import PendingAnswers
from .request_filter import validators_of
from .sessions import Sessions
from .upload_quota import MAX_UPLOAD_BYTES, UploadQuota

#: Maximum age in seconds of an uploaded file in Gradio's directory, and the interval of its
#: cleanup. Jobs have their own copy in Redis.
KEEP_FILES_S: Final = 3600
CLEANUP_S: Final = 60
#: Maximum concurrent events of all users, and maximum queued events. Events only wait for Redis, so
#: the limits are high.
MAX_CONCURRENT: Final = 512
MAX_QUEUED: Final = 512
#: Seconds between two looks at Gradio's empty queue: a press waits half of them on average. Gradio
#: looks a thousand times per second, which costs each idle gateway 5 % of a core.
LOOK_S: Final = 0.02


def mount_page(app: FastAPI, gateway: Gateway, upload_directory: str) -> None:
    """Mount Gradio's application at /ui, behind the access gate."""
    pending = PendingAnswers()
    blocks = build(gateway, pending, (CLEANUP_S, KEEP_FILES_S))
    page = _mount_blocks(app, blocks, AccessGate.NAME)
    # The redirect is relative: a reverse proxy may serve the gateway under another name and path.
    for path in ("/", PAGE_PATH):
        home = RedirectResponse(f"{PAGE_PATH.removeprefix('/')}/")
        app.router.routes.insert(0, Route(path, lambda _, home=home: home, include_in_schema=False))
    # Starlette's redirects trust `Host`.
    page.router.redirect_slashes = False
    page.router.routes.insert(0, Route("/results/{file}", download(gateway.client)))
    page.add_middleware(
        AccessGate,
        gateway=gateway,
        sessions=Sessions(gateway.key_cache.authenticate),
        quota=UploadQuota(upload_directory, KEEP_FILES_S),
        validators=validators_of(blocks),
        pending_count=lambda name: _pending_count(blocks, name),
        pending=pending,
    )


def _mount_blocks(app: FastAPI, blocks: Any, name_key: str) -> Any:
    """Mount the blocks without the features that the page does not need; return Gradio's app.

    The access gate stores the tenant's name in the scope under `name_key`.
    """
    # Gradio's default is 40 for all users together.
    blocks.max_threads = MAX_CONCURRENT
    blocks.queue(api_open=False, max_size=MAX_QUEUED, default_concurrency_limit=MAX_CONCURRENT)
    blocks._queue.sleep_when_free = LOOK_S
    gradio.mount_gradio_app(
        app,
        blocks,
        PAGE_PATH,
        auth_dependency=lambda request: request.scope.get(name_key),
        footer_links=[],
        run_history=False,
        show_error=False,
        # A larger image is reported beside the others; Gradio would reject all of them.
        max_file_size=MAX_UPLOAD_BYTES,
        allowed_paths=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=PALETTE,
        css_paths=[STYLE],
    )
    return app.routes[-1].app  # type: ignore[attr-defined]


def _pending_count(blocks: Any, name: str) -> int:
    """Return the number of a tenant's events in Gradio's queue that have no answer yet."""
    return sum(event.username == name for event in blocks._queue.event_ids_to_events.values())
