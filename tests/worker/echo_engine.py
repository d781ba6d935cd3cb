"""An engine process with the real socket around a loop that only echoes.

    python tests/worker/echo_engine.py SOCKET [--hold | --mortal]

It answers each row with its text; with --hold it keeps rows until they are cancelled, with --mortal
the row `deadly` kills it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from worker.engine.process import EngineServer
from worker.engine.protocol import EngineInfo
from worker.engine.request import Answer, Request


class Echo:
    """What the server asks of an engine."""

    def __init__(self, hold: bool) -> None:
        self.hold = hold
        self.rows: dict[Any, Request] = {}
        self.answers: list[Answer] = []

    @property
    def idle(self) -> bool:
        return not self.answers

    def add(self, request: Request) -> None:
        if request.text == "deadly" and "--mortal" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.hold:
            self.rows[request.id] = request
        else:
            self.answers.append(Answer(request.id, text=f"{request.text} by {os.getpid()}"))

    def cancel(self, request_id: Any) -> None:
        if self.rows.pop(request_id, None) is not None:
            self.answers.append(Answer(request_id, error_code="cancelled"))

    def has_features(self, hashes: Iterable[str]) -> set[str]:
        return {one for one in hashes if one.startswith("a")}

    def step(self) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers


if __name__ == "__main__":
    info = EngineInfo("echo", "1", 2, 3, ("caption",), os.getpid())
    server = EngineServer(Echo("--hold" in sys.argv), info)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.serve(Path(sys.argv[1]))
