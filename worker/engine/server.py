"""The engine's server: a Unix socket around the engine loop, one process for each accelerator."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from producer.observability.logs import fields
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
from worker.engine.request import Answer, RequestId
from worker.engine.watchdog import Watchdog
from worker.processes.lifeline import HEARTBEAT_S

if TYPE_CHECKING:
    from worker.engine.engine import Engine
    from worker.engine.null import NullEngine

log = logging.getLogger(__name__)

#: Seconds between two checks for a stop request while idle.
IDLE_POLL_S: Final = 0.2
#: Upper bound of a consumer's request ids; the consumer's number makes them unique in the engine.
_IDS_PER_PEER: Final = 1 << 40


class _Peer:
    """A connected consumer, with a reader and a writer thread.

    The loop never writes to a socket itself, so that a stalled consumer does not block it.
    """

    def __init__(self, number: int, connection: Connection[Any, Any]) -> None:
        self.number = number
        self._connection = connection
        self._outbox: SimpleQueue[object] = SimpleQueue()

    def start(self, info: EngineInfo, receive: Callable[[_Peer, object], None]) -> None:
        """Start both threads; `receive` gets each message, and None after a disconnect."""
        self.send(info)
        threading.Thread(target=self._read, args=(receive,), daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def send(self, message: object) -> None:
        self._outbox.put(message)

    def close(self) -> None:
        disconnect(self._connection)

    def _read(self, receive: Callable[[_Peer, object], None]) -> None:
        try:
            while True:
                receive(self, self._connection.recv())
        except (EOFError, OSError):
            log.debug("consumer %d disconnected", self.number)
        except Exception:
            # An unreadable message. Without an answer, the consumer would wait forever.
            log.exception("consumer %d sent an unreadable message", self.number)
        receive(self, None)
        self._outbox.put(None)

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except OSError:
                break
        disconnect(self._connection)
        self._connection.close()


class EngineServer:
    """A server that runs the engine loop, receives requests and sends answers to consumers."""

    def __init__(
        self,
        engine: Engine | NullEngine,
        info: EngineInfo,
        linger_s: float | None = None,
        watchdog: Watchdog | None = None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._info = info
        self._watchdog = watchdog
        #: Called when the socket listens, and then every HEARTBEAT_S while the loop runs.
        self._on_heartbeat = on_heartbeat
        self._heartbeat_at = 0.0
        self._socket: Path | None = None
        #: Seconds without a consumer after which the engine ends; None: never.
        self._linger_s = linger_s
        self._inbox: SimpleQueue[tuple[_Peer, object]] = SimpleQueue()
        self._peers: dict[int, _Peer] = {}
        self._rows: dict[int, set[int]] = defaultdict(set)
        self._alone_since = time.monotonic()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `serve` after the current step."""
        self._stop.set()

    def finish(self) -> None:
        """End `serve` once the last consumer has disconnected, and accept no further consumers.

        Consumers of the next process tree would otherwise keep this engine alive and prevent the
        start of their own.
        """
        self._on_heartbeat = lambda: None
        self._linger_s = IDLE_POLL_S
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)

    def serve(self, socket: Path) -> None:
        """Serve until `stop`, or until no consumer has been connected for the linger time."""
        self._socket = socket
        socket.unlink(missing_ok=True)
        # After `finish` the socket no longer exists.
        with (
            suppress(FileNotFoundError),
            Listener(str(socket), "AF_UNIX", backlog=64) as listener,
        ):
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            while not self._stop.is_set() and not self._linger_expired():
                self._heartbeat()
                self._receive_messages()
                if not self._engine.idle:
                    self._step()
        for peer in list(self._peers.values()):
            peer.close()

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_S
            self._on_heartbeat()

    def _step(self) -> None:
        if self._watchdog is not None:
            self._watchdog.step()
        self._deliver(self._engine.step())
        self._deliver_texts(self._engine.partial_texts())
        if log.isEnabledFor(logging.DEBUG):
            stats = self._engine.stats
            values = {"active": stats.active, "waiting": stats.waiting, "tokens": stats.tokens}
            log.debug("step", extra=fields(**values, seconds=round(stats.last_step_s, 4)))
        if self._watchdog is not None and self._engine.idle:
            self._watchdog.rest()

    def _accept(self, listener: Listener) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                connection = listener.accept()
            except (OSError, EOFError):
                continue
            number += 1
            peer = _Peer(number, connection)
            self._peers[number] = peer
            peer.start(self._info, self._receive)

    def _receive(self, peer: _Peer, message: object) -> None:
        """Answer queries in the peer's thread; queue everything else for the loop.

        A step can take long, and a consumer waits for the reply before it decodes images.
        """
        if isinstance(message, FeatureQuery):
            cached = self._engine.has_features(message.hashes, message.task)
            peer.send(Reply(message.token, cached))
        elif isinstance(message, StatsQuery):
            peer.send(Reply(message.token, self.stats()))
        else:
            self._inbox.put((peer, message))

    def _linger_expired(self) -> bool:
        if self._peers or self._linger_s is None:
            self._alone_since = time.monotonic()
            return False
        return time.monotonic() - self._alone_since > self._linger_s

    def _receive_messages(self) -> None:
        """Handle all queued messages; if the engine is idle, wait for the first one."""
        try:
            if self._engine.idle:
                self._handle(*self._inbox.get(timeout=IDLE_POLL_S))
            while True:
                self._handle(*self._inbox.get_nowait())
        except Empty:
            return

    def _handle(self, peer: _Peer, message: object) -> None:
        base = peer.number * _IDS_PER_PEER
        if isinstance(message, Rows):
            for request in message.requests:
                assert isinstance(request.id, int)
                self._rows[peer.number].add(base + request.id)
                self._engine.add(replace(request, id=base + request.id))
        elif isinstance(message, Cancel):
            for row_id in message.ids:
                self._engine.cancel(base + row_id)
        elif message is None:
            self._remove(peer)

    def _remove(self, peer: _Peer) -> None:
        """Remove a disconnected consumer and cancel its rows."""
        self._peers.pop(peer.number, None)
        for row_id in self._rows.pop(peer.number, ()):
            self._engine.cancel(row_id)

    def stats(self) -> dict[str, float]:
        """Return the engine's statistics. Safe from any thread."""
        stats = self._engine.stats
        return {**asdict(stats), "mean_occupancy": stats.mean_occupancy}

    def _deliver(self, answers: list[Answer]) -> None:
        by_peer: dict[int, list[Answer]] = defaultdict(list)
        for answer in answers:
            assert isinstance(answer.id, int)
            number, row_id = divmod(answer.id, _IDS_PER_PEER)
            self._rows[number].discard(answer.id)
            by_peer[number].append(replace(answer, id=row_id))
        for number, peer_answers in by_peer.items():
            if (peer := self._peers.get(number)) is not None:
                peer.send(Answers(peer_answers))

    def _deliver_texts(self, texts: list[tuple[RequestId, str]]) -> None:
        by_peer: dict[int, dict[int, str]] = defaultdict(dict)
        for request_id, text in texts:
            assert isinstance(request_id, int)
            number, row_id = divmod(request_id, _IDS_PER_PEER)
            by_peer[number][row_id] = text
        for number, peer_texts in by_peer.items():
            if (peer := self._peers.get(number)) is not None:
                peer.send(PartialTexts(peer_texts))
