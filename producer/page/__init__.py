"""The page: captions, questions, dialogues and batches in a browser, at /ui.

It goes through the queue as every producer does. Needs the extra `page` (Gradio); nothing outside
of this package imports that.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ..contract import MAX_BLOB_BYTES
from ..gateway.settings import PAGE

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..gateway.parts import Gateway

#: Seconds that an uploaded file lies in Gradio's directory at most, and how often that is looked
#: after. The jobs have their own copy in Redis.
KEEP_FILES_S: Final = 3600
TIDY_S: Final = 60
#: Requests that wait for a turn, and that are served at once. They wait for Redis, so many can.
MAX_WAITING: Final = 512
AT_ONCE: Final = 64


def mount(app: FastAPI, gateway: Gateway) -> None:
    """Serve the page from a gateway. Call it before the gateway starts.

    Raises ImportError where Gradio is not installed.
    """
    files = _prepare()
    # Not before: Gradio reads the environment when it is imported.
    from starlette.routing import Route

    from .batches import download
    from .gate import Gate
    from .layout import build
    from .sessions import Sessions

    page = _below(app, build(gateway, (TIDY_S, KEEP_FILES_S)), Gate.NAME)
    page.router.routes.insert(0, Route("/results/{file}", download(gateway.client)))
    page.add_middleware(
        Gate,
        sessions=Sessions(gateway.keyring.name_of),
        open_as=gateway.settings.page_open_as,
        files=files,
        stopping=gateway.stopping,
    )


def _below(app: FastAPI, blocks: Any, name: str) -> Any:
    """Gradio's own application, mounted in ours; `name`: where the scope says whose request it is.

    It does nothing that the page does not need.
    """
    import gradio

    from .layout import PALETTE, STYLE

    blocks.queue(api_open=False, max_size=MAX_WAITING, default_concurrency_limit=AT_ONCE)
    gradio.mount_gradio_app(
        app,
        blocks,
        PAGE,
        auth_dependency=lambda request: request.scope.get(name),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_BLOB_BYTES,
        allowed_paths=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=PALETTE,
        css_paths=[STYLE],
    )
    return app.routes[-1].app  # type: ignore[attr-defined]


@cache
def _prepare() -> str:
    """Tell Gradio, before it is imported, to call nobody; returns its directory for files."""
    directory = tempfile.mkdtemp(prefix="blipline-page-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=directory,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    return directory
