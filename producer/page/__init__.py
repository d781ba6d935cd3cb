"""The page at /ui: captions, questions, dialogues and batches in a browser.

The page submits jobs to the queue like every other producer. It needs the extra `page` (Gradio),
which only this package imports.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from typing import TYPE_CHECKING

from . import stub_files

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..gateway.state import Gateway

# Every module of this package may be the first that imports Gradio.
stub_files.disable()


def mount(app: FastAPI, gateway: Gateway) -> None:
    """Mount the page in a gateway; call it before the gateway starts.

    Raises ImportError if Gradio is not installed.
    """
    upload_directory = _configure_gradio()
    # Not before: Gradio reads the environment when it is imported.
    from .gradio_app import mount_page

    mount_page(app, gateway, upload_directory)


@cache
def _configure_gradio() -> str:
    """Disable Gradio's requests to other hosts; return the directory for its uploads."""
    directory = tempfile.mkdtemp(prefix="blipline-page-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=directory,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    return directory
