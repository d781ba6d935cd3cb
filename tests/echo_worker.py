"""Workers without torch, for faults that do not concern a model: real processes, but the engine
answers each row with a digest of its pixels and its text.

A process with ENVIRONMENT in its environment, and all below it, use this engine, which starts in
half a second: `tests/echo_site/sitecustomize.py` replaces the model of `python -m worker.engine`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from config.settings import NULL_MODEL, WorkerSettings
from worker.engine import server
from worker.engine.null import NullEngine
from worker.engine.protocol import EngineInfo, ModelInfo
from worker.engine.request import Answer, Request

HERE: Final = Path(__file__).resolve().parent
#: Side of images that reach the engine unchanged.
SIDE: Final = 64
#: Seconds of a step: work lasts long enough for faults to hit it.
STEP_S: Final = 0.1
ENVIRONMENT: Final = {
    "BLIPLINE_MODEL": NULL_MODEL,
    "PYTHONPATH": os.pathsep.join(map(str, (HERE / "echo_site", HERE.parent))),
}


def answer_to(image: Image.Image, text: str = "") -> str:
    """Return the answer to an image of SIDE and a prompt or question."""
    assert image.size == (SIDE, SIDE)
    return answer_to_pixels(image.convert("RGB").tobytes(), text)


def answer_to_pixels(pixels: bytes, text: str = "") -> str:
    """Return the answer to the pixels that the engine receives, and a prompt or question."""
    return f"{hashlib.sha256(pixels).hexdigest()[:16]} {text}".strip()


class EchoEngine(NullEngine):
    """An engine, as far as the server calls it; its rows wait in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._max_rows = WorkerSettings.load().max_rows
        self._rows: dict[int | str, Request] = {}
        self._cancelled: list[Answer] = []

    def add(self, request: Request) -> None:
        """Add a row."""
        self._rows[request.id] = request
        self.idle = False

    def cancel(self, request_id: int | str) -> None:
        """Answer a row at the next step."""
        if self._rows.pop(request_id, None) is not None:
            self._cancelled.append(Answer(request_id, error_code="cancelled"))

    def step(self) -> list[Answer]:
        """Answer the next rows."""
        time.sleep(STEP_S)
        answers, self._cancelled = self._cancelled, []
        for request_id in list(self._rows)[: self._max_rows]:
            request = self._rows.pop(request_id)
            assert request.pixels is not None
            answers.append(Answer(request_id, answer_to_pixels(request.pixels, request.text)))
        self.idle = not self._rows
        return answers


class EchoServer(server.EngineServer):
    """The server of the engine process, around that engine."""

    def __init__(
        self,
        engine: Any,
        info: EngineInfo,
        linger_s: float | None,
        watchdog: Any,
        on_heartbeat: Callable[[], None],
    ) -> None:
        setting = WorkerSettings.load().image_backend
        model = ModelInfo(
            "echo",
            "1",
            SIDE,
            Image.Resampling.BICUBIC,
            ("caption", "vqa"),
            image_backend="pil" if setting == "auto" else setting,
        )
        echoing = replace(info, models=(model,))
        super().__init__(EchoEngine(), echoing, linger_s, watchdog, on_heartbeat)


def replace_model() -> None:
    """Let the engine process that starts here serve that engine."""
    server.EngineServer = EchoServer  # type: ignore[assignment, misc]
