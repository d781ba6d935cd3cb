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

    from ..gateway.state import Gateway

#: Seconds that an uploaded file lies in Gradio's directory at most, and how often that is looked
#: after. The jobs have their own copy in Redis.
KEEP_FILES_S: Final = 3600
TIDY_S: Final = 60
#: Pressed buttons of everybody that wait for their answer, and others that wait for their turn.
#: They wait for Redis, so many can.
AT_ONCE: Final = 512
MAX_WAITING: Final = 512


def mount(app: FastAPI, gateway: Gateway) -> None:
    """Serve the page from a gateway. Call it before the gateway starts.

    Raises ImportError where Gradio is not installed.
    """
    files = _prepare()
    # Not before: Gradio reads the environment when it is imported.
    from starlette.responses import RedirectResponse
    from starlette.routing import Route

    from .access import AccessGate
    from .batches import download
    from .layout import build
    from .pending import PendingAnswers
    from .request_filter import inputs_of
    from .sessions import Sessions
    from .upload_quota import UploadQuota

    places = PendingAnswers()
    blocks = build(gateway, places, (TIDY_S, KEEP_FILES_S))
    page = _below(app, blocks, AccessGate.NAME)
    # Relative: in front of the gateway may stand what gives it another name and path.
    for path in ("/", PAGE):
        home = RedirectResponse(f"{PAGE.removeprefix('/')}/")
        app.router.routes.insert(0, Route(path, lambda _, home=home: home, include_in_schema=False))
    page.router.routes.insert(0, Route("/results/{file}", download(gateway.client)))
    page.add_middleware(
        AccessGate,
        sessions=Sessions(gateway.keyring.name_of),
        open_as=gateway.settings.page_open_as,
        room=UploadQuota(files, KEEP_FILES_S),
        inputs=inputs_of(blocks),
        waiting=lambda name: _waiting(blocks, name),
        places=places,
        stopping=gateway.stopping,
    )


def _below(app: FastAPI, blocks: Any, name: str) -> Any:
    """Gradio's own application, mounted in ours; `name`: where the scope says whose request it is.

    It does nothing that the page does not need.
    """
    import gradio

    from .layout import PALETTE, STYLE

    # Gradio's own default is 40, for everybody together.
    blocks.max_threads = AT_ONCE
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


def _waiting(blocks: Any, name: str) -> int:
    """How many buttons somebody has pressed whose answers are not there yet."""
    return sum(event.username == name for event in blocks._queue.event_ids_to_events.values())


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
