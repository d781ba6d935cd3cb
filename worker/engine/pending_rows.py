"""Rows that wait for an answer, and the quarantine of those whose engine has crashed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from worker.engine.request import Answer, Request, RequestId

#: Rows that are quarantined together, by the number of engine crashes of each: a row that crashes
#: engines is soon the only one.
TRIAL_ROWS: Final = {1: 8, 2: 1}
#: Crashes after which a row fails as poisoned; at the last one, it was the only row in quarantine.
MAX_DEATHS: Final = len(TRIAL_ROWS) + 1


@dataclass(slots=True)
class PendingRow:
    """A row without an answer."""

    request: Request
    #: Receives the text while it grows. Called in the thread that reads answers: must not block.
    on_text: Callable[[str], object] | None = None
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    #: Engine crashes while the engine had this row.
    deaths: int = 0
    sent: bool = False


def next_suspects(
    suspects: deque[RequestId], pending: Mapping[RequestId, PendingRow]
) -> list[PendingRow]:
    """Take the next rows off the queue of suspects that are tried together: equal crashes each."""
    trial: list[PendingRow] = []
    while suspects:
        row = pending.get(suspects[0])
        if row is not None:
            if trial and row.deaths != trial[0].deaths:
                break
            trial.append(row)
        suspects.popleft()
        if trial and len(trial) == TRIAL_ROWS[trial[0].deaths]:
            break
    return trial
