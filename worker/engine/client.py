"""A consumer's client of the engine. After a crash it sends its rows to the next engine."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import count
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Final

from producer.contract import ErrorCode
from worker.engine.pending_rows import MAX_DEATHS, PendingRow, next_suspects
from worker.engine.protocol import (
    Answers,
    Cancel,
    EngineInfo,
    FeatureQuery,
    PartialTexts,
    Reply,
    Rows,
    StatsQuery,
    disconnect,
)
from worker.engine.request import Answer, Request, RequestId

log = logging.getLogger(__name__)

#: Timeout of a query, after which the caller proceeds as if there were no engine.
QUERY_TIMEOUT_S: Final = 10.0
RECONNECT_PAUSE_S: Final = 0.1
#: Seconds between two calls of `revive`: longer than a start that fails.
REVIVE_PAUSE_S: Final = 10.0


class EngineClient:
    """A thread-safe client. Every submitted row gets exactly one answer, even after a crash."""

    def __init__(
        self,
        socket: Path,
        wait_s: float,
        revive: Callable[[], object] | None = None,
        on_models_changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._socket = socket
        self._wait_s = wait_s
        #: Called periodically while no engine answers, if no supervisor starts one.
        self._revive = revive
        self._revived_at = -REVIVE_PAUSE_S
        #: Called when a new engine has other models than the previous one.
        self._on_models_changed = on_models_changed
        self._ids = count(1)
        # Guards the state below; a second lock guards sending, so that a blocked send does not
        # delay the reading of answers.
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._connection: Connection[Any, Any] | None = None
        self._pending: dict[RequestId, PendingRow] = {}
        #: Rows of crashed engines: quarantined a few at a time, in addition to the new rows.
        self._suspects: deque[RequestId] = deque()
        self._quarantined: set[RequestId] = set()
        self._queries: dict[int, Future[Any]] = {}
        self._info: EngineInfo | None = None
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-client", daemon=True)

    def start(self) -> None:
        """Start connecting in a background thread."""
        self._thread.start()

    def info(self, timeout_s: float) -> EngineInfo:
        """Wait for a connection and return the engine's models. Raises TimeoutError."""
        if not self._ready.wait(timeout_s) or self._info is None:
            raise TimeoutError(f"no engine at {self._socket} after {timeout_s:g} s")
        return self._info

    def submit(
        self, build: Callable[[int], Request], on_text: Callable[[str], object] | None = None
    ) -> Future[Answer]:
        """Send the request that `build` returns for its id. The future never raises.

        `on_text` gets the text of a request that streams, from its beginning, while it grows; a
        further engine starts again. It must not block.
        """
        request = build(next(self._ids))
        pending = PendingRow(request, on_text)
        with self._lock:
            self._pending[request.id] = pending
            connection = self._connection
            pending.sent = connection is not None
        if connection is not None:
            self._send(connection, Rows([request]))
        return pending.future

    def cancel(self, ids: Sequence[int]) -> None:
        """Cancel rows; they end soon with the code `cancelled`."""
        connection = self._connection
        if connection is not None:
            self._send(connection, Cancel(list(ids)))

    def cached_features(self, hashes: Iterable[str], task: str) -> set[str]:
        """Return the images whose features for a task the engine has cached, if there is one."""
        requested = list(hashes)
        if not requested:
            return set()
        cached = self._query(lambda token: FeatureQuery(token, requested, task))
        return cached or set()

    def stats(self) -> dict[str, float] | None:
        """Return the engine's statistics; None without an engine."""
        stats: dict[str, float] | None = self._query(StatsQuery)
        return stats

    def close(self) -> None:
        """Disconnect; rows without an answer end with `engine_unavailable`."""
        self._closed.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            disconnect(connection)
        self._thread.join()
        self._fail(lambda row: True, "the worker is shutting down")

    def _query(self, build: Callable[[int], object]) -> Any:
        token, future = next(self._ids), Future[Any]()
        with self._lock:
            connection = self._connection
            if connection is None:
                return None
            self._queries[token] = future
        self._send(connection, build(token))
        try:
            return future.result(QUERY_TIMEOUT_S)
        except TimeoutError:
            return None

    def _send(self, connection: Connection[Any, Any], message: object) -> None:
        try:
            with self._send_lock:
                connection.send(message)
        except (OSError, ValueError, TypeError):
            # Disconnected, or closed by another thread (TypeError). The reader thread handles it.
            log.debug("the engine disconnected during a send")

    def _run(self) -> None:
        while not self._closed.is_set():
            connection = self._connect()
            if connection is None:
                self._revive_engine()
                self._expire_rows()
                self._closed.wait(RECONNECT_PAUSE_S)
                continue
            try:
                self._read(connection)
            except (EOFError, OSError) as error:
                log.debug("engine connection ended: %r", error)
            self._handle_disconnect(connection)

    def _connect(self) -> Connection[Any, Any] | None:
        try:
            connection = Client(str(self._socket), "AF_UNIX")
            info = connection.recv()
        except (OSError, EOFError):
            return None
        if self._info is not None and info.models != self._info.models:
            self._on_models_changed()
        self._info = info
        with self._lock:
            self._connection = connection
            new_rows = [row for row in self._pending.values() if not row.deaths]
            self._suspects = deque(row_id for row_id, row in self._pending.items() if row.deaths)
            for row in new_rows:
                row.sent = True
        self._ready.set()
        for row in new_rows:
            self._send(connection, Rows([row.request]))
        self._quarantine()
        return connection

    def _quarantine(self) -> None:
        """Send the next few suspects if the quarantine is empty."""
        with self._lock:
            connection = self._connection
            if connection is None or self._quarantined:
                return
            trial = next_suspects(self._suspects, self._pending)
            self._quarantined = {row.request.id for row in trial}
            for row in trial:
                row.sent = True
        if trial:
            self._send(connection, Rows([row.request for row in trial]))

    def _read(self, connection: Connection[Any, Any]) -> None:
        while True:
            message = connection.recv()
            if isinstance(message, Answers):
                for answer in message.answers:
                    self._resolve(answer)
            elif isinstance(message, PartialTexts):
                for row_id, text in message.texts.items():
                    self._grow(row_id, text)
            elif isinstance(message, Reply):
                with self._lock:
                    query = self._queries.pop(message.token, None)
                if query is not None:
                    query.set_result(message.value)

    def _grow(self, row_id: int, text: str) -> None:
        with self._lock:
            row = self._pending.get(row_id)
        if row is not None and row.on_text is not None:
            row.on_text(text)

    def _handle_disconnect(self, connection: Connection[Any, Any]) -> None:
        # A concurrent send must fail before the descriptor can be reused.
        disconnect(connection)
        with self._send_lock:
            connection.close()
        with self._lock:
            self._connection = None
            self._quarantined = set()
            queries, self._queries = self._queries, {}
            for row in self._pending.values():
                row.deaths += row.sent
                row.sent, row.since = False, time.monotonic()
            waiting = len(self._pending)
        for future in queries.values():
            future.set_result(None)
        if not self._closed.is_set():
            log.warning("the engine has disconnected; %d rows wait for the next engine", waiting)
        self._fail(
            lambda row: row.deaths >= MAX_DEATHS,
            f"the engine crashed {MAX_DEATHS} times while it processed this item",
            ErrorCode.POISONED,
        )

    def _revive_engine(self) -> None:
        now = time.monotonic()
        if self._revive is not None and now - self._revived_at >= REVIVE_PAUSE_S:
            self._revived_at = now
            try:
                self._revive()
            except OSError:
                log.exception("cannot start an engine")

    def _expire_rows(self) -> None:
        oldest = time.monotonic() - self._wait_s
        self._fail(
            lambda row: row.since < oldest,
            f"no engine was available for {self._wait_s:g} s; see the worker's log",
        )

    def _fail(
        self,
        condition: Callable[[PendingRow], bool],
        message: str,
        code: ErrorCode = ErrorCode.ENGINE_UNAVAILABLE,
    ) -> None:
        with self._lock:
            ids = [row_id for row_id, row in self._pending.items() if condition(row)]
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
            self._quarantine()
