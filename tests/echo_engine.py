"""An engine process with the real server around an engine that echoes its requests.

    python tests/echo_engine.py SOCKET [--hold | --mortal | --hangs | --writes | --other]

It answers each row with its text. With --hold it answers rows only when they are cancelled, with
--mortal the row `deadly` kills it, with --hangs a step does not end, with --writes it has no
retrieval model. --other changes nothing: it is another process, whose answers tell.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from worker.engine.protocol import AdapterInfo, EngineInfo, ModelInfo
from worker.engine.request import Answer, Request
from worker.engine.server import EngineServer
from worker.engine.watchdog import Watchdog

#: Adapters of the captioner; the second one changes the features of images.
ADAPTERS = (AdapterInfo("red", "1", False), AdapterInfo("blue", "2", True))


def answer(request: Request) -> Answer:
    """Build an answer that shows every field of the request."""
    turns = [text for turn in request.history for text in turn]
    adapter = ["in", request.adapter] if request.adapter else []
    text = " ".join([*turns, request.text, *adapter, "by", str(os.getpid())])
    scores = tuple((len(candidate) / 10, -len(candidate) / 10) for candidate in request.texts)
    embedding = (0.6, 0.8) if request.image_hash else (1.0, 0.0)
    return Answer(request.id, text, scores=scores, embedding=embedding)


class Echo:
    """An engine, as far as the server calls it."""

    def __init__(self, hold: bool) -> None:
        self.hold = hold
        self.rows: dict[Any, Request] = {}
        self.answers: list[Answer] = []
        #: The words that a request that streams has not received yet, the newest text first.
        self.streams: dict[Any, tuple[Request, list[str]]] = {}

    @property
    def idle(self) -> bool:
        return not (self.answers or self.streams)

    def add(self, request: Request) -> None:
        if request.text == "deadly" and "--mortal" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        if request.streams:
            self.streams[request.id] = request, answer(request).text.split()
        elif self.hold:
            self.rows[request.id] = request
        else:
            self.answers.append(answer(request))

    def cancel(self, request_id: Any) -> None:
        if self.rows.pop(request_id, None) is not None:
            self.answers.append(Answer(request_id, error_code="cancelled"))

    def has_features(self, hashes: Iterable[str], task: str) -> set[str]:
        return {image for image in hashes if image in ("a", "a1", "a2")}

    def step(self) -> list[Answer]:
        if "--hangs" in sys.argv:
            time.sleep(60)
        answers, self.answers = self.answers, []
        return answers

    def partial_texts(self) -> list[tuple[Any, str]]:
        """Return a further word of each text, then its answer."""
        time.sleep(0.02 * bool(self.streams))
        texts = []
        for number, (request, rest) in list(self.streams.items()):
            if not rest:
                del self.streams[number]
                self.answers.append(answer(request))
                continue
            words = answer(request).text.split()
            texts.append((number, " ".join(words[: len(words) - len(rest) + 1])))
            rest.pop()
        return texts


if __name__ == "__main__":
    models: tuple[ModelInfo, ...] = (
        ModelInfo("echo", "1", 2, 3, ("caption", "chat", "vqa"), adapters=ADAPTERS),
        ModelInfo("compare", "1", 4, 3, ("embed", "match")),
    )
    if "--writes" in sys.argv:
        models = models[:1]
    info = EngineInfo(os.getpid(), models)
    server = EngineServer(
        Echo("--hold" in sys.argv),  # type: ignore[arg-type]
        info,
        watchdog=Watchdog(0.2),
    )
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.serve(Path(sys.argv[1]))
