"""Who waits, who may join now, and whose time is up. Pure: no torch, no clock of its own.

Admission is ski rental. To admit now costs every active row the fixed part of a prefill; to wait
costs every row that could already be running one decode step. So rows are let in when the waiting
so far has cost as much as admitting would: never more than twice what perfect foresight would pay.
"""

from __future__ import annotations

import heapq
from itertools import chain, count, islice

from worker.engine.request import Request, RequestId


class Scheduler:
    """Queues of waiting requests. Interactive before bulk, oldest first."""

    def __init__(self, max_rows: int, reserved_rows: int = 0, prefill_steps: float = 1.0) -> None:
        if not 0 <= reserved_rows < max_rows:
            raise ValueError(f"reserved_rows must lie in 0..{max_rows - 1}, not {reserved_rows}")
        self.max_rows = max_rows
        #: Rows that bulk may not take, so that an interactive request finds a place at once.
        self.reserved_rows = reserved_rows
        #: The fixed cost of a prefill, in decode steps; measured at warm-up.
        self.prefill_steps = prefill_steps
        self._interactive: dict[RequestId, Request] = {}
        self._bulk: dict[RequestId, Request] = {}
        self._deadlines: list[tuple[float, int, RequestId]] = []
        self._order = count()
        self._waited = 0  # row-steps that admissible rows have waited since the last admission

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._interactive or request_id in self._bulk

    def add(self, request: Request) -> None:
        queue = self._interactive if request.interactive else self._bulk
        queue[request.id] = request
        if request.deadline is not None:
            heapq.heappush(self._deadlines, (request.deadline, next(self._order), request.id))

    def remove(self, request_id: RequestId) -> Request | None:
        """Take a waiting request out (cancelled); None when it does not wait here."""
        request = self._interactive.pop(request_id, None)
        return request if request is not None else self._bulk.pop(request_id, None)

    def expire(self, now: float) -> list[Request]:
        """Take out every waiting request whose deadline has come."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, _, request_id = heapq.heappop(self._deadlines)
            waiting = self._interactive.get(request_id) or self._bulk.get(request_id)
            # An id may have been used again since: only the deadline of this request counts.
            if waiting is not None and waiting.deadline == deadline:
                self.remove(request_id)
                expired.append(waiting)
        return expired

    def admit(self, active: int, active_bulk: int) -> list[Request]:
        """Take out the requests that join now. Call once for each step.

        `active` rows are decoding, `active_bulk` of them for bulk requests.
        """
        interactive, bulk = self._admissible(active, active_bulk)
        if not interactive + bulk:
            self._waited = 0
            return []
        self._waited += interactive + bulk
        if active and not interactive and self._waited < active * self.prefill_steps:
            return []
        self._waited = 0
        return self._take(interactive, bulk)

    def _admissible(self, active: int, active_bulk: int) -> tuple[int, int]:
        free = self.max_rows - active
        interactive = min(free, len(self._interactive))
        open_to_bulk = min(free - interactive, self.max_rows - self.reserved_rows - active_bulk)
        return interactive, max(0, min(open_to_bulk, len(self._bulk)))

    def _take(self, interactive: int, bulk: int) -> list[Request]:
        taken = list(
            chain(
                islice(self._interactive.values(), interactive),
                islice(self._bulk.values(), bulk),
            )
        )
        for request in taken:
            self.remove(request.id)
        self._tidy()
        return taken

    def _tidy(self) -> None:
        """Forget deadlines of requests that no longer wait, before they outnumber the others."""
        if len(self._deadlines) > 2 * len(self) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[2] in self]
            heapq.heapify(self._deadlines)
