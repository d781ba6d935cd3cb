"""An engine that sleeps as long as a device would compute, so that trees do not share a processor.

    python -m benchmarks.sleeping_engine RUN_DIR

It is served by the real server to real consumers.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.engine.protocol import EngineInfo, ModelInfo, private_dir, socket_path
from worker.engine.request import Answer, Request, RequestId
from worker.engine.server import EngineServer
from worker.engine.stats import EngineStats

#: Rows of a step, and its seconds: 32 items per second.
ROWS: Final = 32
STEP_S: Final = 1.0


class SleepingEngine:
    """An engine without a model that answers `ROWS` rows every `STEP_S` seconds."""

    def __init__(self) -> None:
        self.stats = EngineStats()
        self._rows: deque[Request] = deque()

    @property
    def idle(self) -> bool:
        """Return whether no row waits."""
        return not self._rows

    def add(self, request: Request) -> None:
        """Take a row."""
        self._rows.append(request)

    def cancel(self, request_id: RequestId) -> None:
        """Do nothing; nobody cancels in the benchmark."""

    def step(self) -> list[Answer]:
        """Sleep, and answer the rows that have waited longest."""
        if not self._rows:
            return []
        time.sleep(STEP_S)
        rows = [self._rows.popleft() for _ in range(min(ROWS, len(self._rows)))]
        return [Answer(row.id, "asleep") for row in rows]

    def partial_texts(self) -> list[tuple[RequestId, str]]:
        """Return no texts."""
        return []

    def has_features(self, hashes: Iterable[str], task: str) -> set[str]:
        """Return no images."""
        return set()


def main() -> None:
    """Serve until SIGTERM."""
    info = EngineInfo(os.getpid(), (ModelInfo("sleeping", "1", 64, 3, ("caption",)),))
    server = EngineServer(SleepingEngine(), info)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.serve(socket_path(private_dir(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
