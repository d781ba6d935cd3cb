"""A consumer's line to the engine. It outlives the engine: rows are sent again to the next one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Final

from producer.contract import ErrorCode
from worker.engine.protocol import (
    Answers,
    AskFigures,
    AskHeld,
    Cancel,
    EngineInfo,
    Reply,
    Rows,
    hang_up,
)
from worker.engine.request import Answer, Request, RequestId

log = logging.getLogger(__name__)

#: How many rows are tried together that have seen so many engines die: the one that kills engines
#: is soon alone with the blame.
TRIAL_ROWS: Final = {1: 8, 2: 1}
#: A row that was in the engine at this many of its deaths, at the last one alone, is given up.
MAX_DEATHS: Final = len(TRIAL_ROWS) + 1
#: Seconds to wait for an answer that is not about rows; then one goes on as without an engine.
ASK_TIMEOUT_S: Final = 10.0
RECONNECT_PAUSE_S: Final = 0.1
#: Seconds between two calls of `revive`: longer than a start that fails takes.
REVIVE_PAUSE_S: Final = 10.0


@dataclass(slots=True)
class _Pending:
    """A row that has no answer yet."""

    request: Request
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    #: Engines that died while they had this row.
    deaths: int = 0
    sent: bool = False


class EngineClient:
    """Thread-safe. Every submitted row gets exactly one answer, whatever happens to the engine."""

    def __init__(
        self,
        socket: Path,
        wait_s: float,
        revive: Callable[[], object] | None = None,
        on_other_models: Callable[[], object] = lambda: None,
    ) -> None:
        self._socket = socket
        self._wait_s = wait_s
        #: Called now and then while no engine answers, where nobody else would start one.
        self._revive = revive
        self._revived_at = -REVIVE_PAUSE_S
        #: Called when an engine answers whose models are not those of the engine before.
        self._on_other_models = on_other_models
        self._ids = count(1)
        # Guards the books below; a second lock guards the wire, so that a send that blocks
        # does not keep answers from being read.
        self._lock = threading.Lock()
        self._wire = threading.Lock()
        self._connection: Connection[Any, Any] | None = None
        self._pending: dict[RequestId, _Pending] = {}
        #: Rows that have seen an engine die: tried a few at a time, beside the rows that are new.
        self._suspects: deque[RequestId] = deque()
        self._quarantined: set[RequestId] = set()
        self._asked: dict[int, Future[Any]] = {}
        self._info: EngineInfo | None = None
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-client", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def info(self, timeout_s: float) -> EngineInfo:
        """What the engine runs; waits for the first connection. Raises TimeoutError."""
        if not self._ready.wait(timeout_s) or self._info is None:
            raise TimeoutError(f"no engine at {self._socket} after {timeout_s:g} s")
        return self._info

    def submit(self, build: Callable[[int], Request]) -> Future[Answer]:
        """Send the row that `build` makes of its id. The future never holds an exception."""
        request = build(next(self._ids))
        pending = _Pending(request)
        with self._lock:
            self._pending[request.id] = pending
            connection = self._connection
            pending.sent = connection is not None
        if connection is not None:
            self._send(connection, Rows([request]))
        return pending.future

    def cancel(self, ids: Sequence[int]) -> None:
        """Ask that these rows end soon, with the code `cancelled`."""
        connection = self._connection
        if connection is not None:
            self._send(connection, Cancel(list(ids)))

    def held(self, hashes: Iterable[str], task: str) -> set[str]:
        """Images whose features, as a task needs them, the engine has now; none when it is away."""
        wanted = list(hashes)
        held = self._ask(lambda token: AskHeld(token, wanted, task)) if wanted else None
        return held or set()

    def figures(self) -> dict[str, float] | None:
        """What the engine has done since its start; None when it is away."""
        figures: dict[str, float] | None = self._ask(AskFigures)
        return figures

    def close(self) -> None:
        """Hang up; rows without an answer end with `engine_unavailable`."""
        self._closed.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            hang_up(connection)
        self._thread.join()
        self._fail(lambda row: True, "the worker is shutting down")

    def _ask(self, question: Callable[[int], object]) -> Any:
        token, future = next(self._ids), Future[Any]()
        with self._lock:
            connection = self._connection
            if connection is None:
                return None
            self._asked[token] = future
        self._send(connection, question(token))
        try:
            return future.result(ASK_TIMEOUT_S)
        except TimeoutError:
            return None

    def _send(self, connection: Connection[Any, Any], message: object) -> None:
        try:
            with self._wire:
                connection.send(message)
        except (OSError, ValueError, TypeError):
            # Gone, or closed meanwhile (TypeError). The reader notices too, and sends rows again.
            log.debug("the engine went away while a message was being sent")

    def _run(self) -> None:
        while not self._closed.is_set():
            connection = self._connect()
            if connection is None:
                self._ask_for_engine()
                self._give_up_on_old_rows()
                self._closed.wait(RECONNECT_PAUSE_S)
                continue
            try:
                self._read(connection)
            except (EOFError, OSError) as error:
                log.debug("engine connection ended: %r", error)
            self._hung_up(connection)

    def _connect(self) -> Connection[Any, Any] | None:
        try:
            connection = Client(str(self._socket), "AF_UNIX")
            info = connection.recv()
        except (OSError, EOFError):
            return None
        if self._info is not None and info.models != self._info.models:
            self._on_other_models()
        self._info = info
        with self._lock:
            self._connection = connection
            fresh = [row for row in self._pending.values() if not row.deaths]
            self._suspects = deque(row_id for row_id, row in self._pending.items() if row.deaths)
            for row in fresh:
                row.sent = True
        self._ready.set()
        for row in fresh:
            self._send(connection, Rows([row.request]))
        self._try_suspects()
        return connection

    def _try_suspects(self) -> None:
        """Send the next few rows that have seen an engine die, once those before have survived."""
        with self._lock:
            connection = self._connection
            if connection is None or self._quarantined:
                return
            trial = self._next_trial()
            self._quarantined = {row.request.id for row in trial}
            for row in trial:
                row.sent = True
        if trial:
            self._send(connection, Rows([row.request for row in trial]))

    def _next_trial(self) -> list[_Pending]:
        trial: list[_Pending] = []
        while self._suspects:
            row = self._pending.get(self._suspects[0])
            if row is not None:
                if trial and row.deaths != trial[0].deaths:
                    break
                trial.append(row)
            self._suspects.popleft()
            if trial and len(trial) == TRIAL_ROWS[trial[0].deaths]:
                break
        return trial

    def _read(self, connection: Connection[Any, Any]) -> None:
        while True:
            message = connection.recv()
            if isinstance(message, Answers):
                for answer in message.answers:
                    self._resolve(answer)
            elif isinstance(message, Reply):
                with self._lock:
                    asked = self._asked.pop(message.token, None)
                if asked is not None:
                    asked.set_result(message.value)

    def _hung_up(self, connection: Connection[Any, Any]) -> None:
        # Whoever is sending finds the line dead, before its descriptor can be anybody else's.
        hang_up(connection)
        with self._wire:
            connection.close()
        with self._lock:
            self._connection = None
            self._quarantined = set()
            asked, self._asked = self._asked, {}
            for row in self._pending.values():
                row.deaths += row.sent
                row.sent, row.since = False, time.monotonic()
            lost = len(self._pending)
        for future in asked.values():
            future.set_result(None)
        if not self._closed.is_set():
            log.warning("the engine is gone; %d rows wait for the next one", lost)
        self._fail(
            lambda row: row.deaths >= MAX_DEATHS,
            f"the engine died {MAX_DEATHS} times while it worked on this item",
            ErrorCode.POISONED,
        )

    def _ask_for_engine(self) -> None:
        now = time.monotonic()
        if self._revive is not None and now - self._revived_at >= REVIVE_PAUSE_S:
            self._revived_at = now
            try:
                self._revive()
            except OSError:
                log.exception("cannot start an engine")

    def _give_up_on_old_rows(self) -> None:
        oldest = time.monotonic() - self._wait_s
        self._fail(
            lambda row: row.since < oldest,
            f"no engine for {self._wait_s:g} s: see the worker's log",
        )

    def _fail(
        self,
        which: Callable[[_Pending], bool],
        message: str,
        code: ErrorCode = ErrorCode.ENGINE_UNAVAILABLE,
    ) -> None:
        with self._lock:
            ids = [row_id for row_id, row in self._pending.items() if which(row)]
        for row_id in ids:
            self._resolve(Answer(row_id, error_code=code.value, error_message=message))

    def _resolve(self, answer: Answer) -> None:
        with self._lock:
            row = self._pending.pop(answer.id, None)
            quarantined = answer.id in self._quarantined
            self._quarantined.discard(answer.id)
        if row is not None:
            row.future.set_result(answer)
        if quarantined:
            self._try_suspects()
