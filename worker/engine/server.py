"""The engine process: a socket around the loop. One for each accelerator."""

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
from worker.engine.request import Answer
from worker.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.engine.engine import Engine
    from worker.engine.null import NullEngine

log = logging.getLogger(__name__)

#: Seconds between two looks at whether to stop, while there is nothing to do.
IDLE_POLL_S: Final = 0.2
#: Seconds between two signs of life.
HEARTBEAT_S: Final = 1.0
#: Request ids of one consumer lie below this; the engine's own are made unique with its number.
_IDS_PER_PEER: Final = 1 << 40


class _Peer:
    """One connected consumer: a thread that reads, and one that writes.

    A consumer that is stopped must not stop the loop, so the loop never writes to a socket itself.
    """

    def __init__(self, number: int, connection: Connection[Any, Any]) -> None:
        self.number = number
        self._connection = connection
        self._outbox: SimpleQueue[object] = SimpleQueue()

    def start(self, hello: EngineInfo, take: Callable[[_Peer, object], None]) -> None:
        """Begin to talk; `take` gets each message as it comes, and None when the peer is gone."""
        self.send(hello)
        threading.Thread(target=self._read, args=(take,), daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def send(self, message: object) -> None:
        self._outbox.put(message)

    def close(self) -> None:
        hang_up(self._connection)

    def _read(self, take: Callable[[_Peer, object], None]) -> None:
        try:
            while True:
                take(self, self._connection.recv())
        except (EOFError, OSError):
            log.debug("consumer %d hung up", self.number)
        except Exception:
            # Not a message of ours. Without this thread the consumer would wait for ever.
            log.exception("consumer %d sends what cannot be read", self.number)
        take(self, None)
        self._outbox.put(None)

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except OSError:
                break
        hang_up(self._connection)
        self._connection.close()


class EngineServer:
    """Feeds the loop with what consumers send, and hands them what it delivers."""

    def __init__(
        self,
        engine: Engine | NullEngine,
        info: EngineInfo,
        linger_s: float | None = None,
        watchdog: Watchdog | None = None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._info = info
        self._watchdog = watchdog
        #: Called when it listens, and then about every HEARTBEAT_S while the loop turns.
        self._on_turn = on_turn
        self._turn_at = 0.0
        self._socket: Path | None = None
        #: Seconds without any consumer after which the engine ends; None: it stays.
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
        """End `serve` once the last consumer is gone; no further one finds the way here.

        The consumers of the next tree would keep this engine, and so keep out their own.
        """
        self._on_turn = lambda: None
        self._linger_s = IDLE_POLL_S
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)

    def serve(self, socket: Path) -> None:
        """Listen and run until stopped, or until nobody has been there for the linger time."""
        self._socket = socket
        socket.unlink(missing_ok=True)
        # An orphan's socket is gone before it ends.
        with (
            suppress(FileNotFoundError),
            Listener(str(socket), "AF_UNIX", backlog=64) as listener,
        ):
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            while not self._stop.is_set() and not self._abandoned():
                self._beat()
                self._take_messages()
                if not self._engine.idle:
                    self._step()
        for peer in list(self._peers.values()):
            peer.close()

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._turn_at:
            self._turn_at = now + HEARTBEAT_S
            self._on_turn()

    def _step(self) -> None:
        if self._watchdog is not None:
            self._watchdog.step()
        self._deliver(self._engine.step())
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
        """From the peer's thread: answer questions at once, leave the rest to the loop.

        A step can take long, and a consumer that asks decodes nothing meanwhile.
        """
        if isinstance(message, AskHeld):
            held = self._engine.has_features(message.hashes, message.task)
            peer.send(Reply(message.token, held))
        elif isinstance(message, AskFigures):
            peer.send(Reply(message.token, self.figures()))
        else:
            self._inbox.put((peer, message))

    def _abandoned(self) -> bool:
        if self._peers or self._linger_s is None:
            self._alone_since = time.monotonic()
            return False
        return time.monotonic() - self._alone_since > self._linger_s

    def _take_messages(self) -> None:
        """Take in all that has arrived; with nothing to compute, wait for something to."""
        try:
            if self._engine.idle:
                self._take(*self._inbox.get(timeout=IDLE_POLL_S))
            while True:
                self._take(*self._inbox.get_nowait())
        except Empty:
            return

    def _take(self, peer: _Peer, message: object) -> None:
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
            self._forget(peer)

    def _forget(self, peer: _Peer) -> None:
        """The consumer is gone, and nobody will read its answers."""
        self._peers.pop(peer.number, None)
        for row_id in self._rows.pop(peer.number, ()):
            self._engine.cancel(row_id)

    def figures(self) -> dict[str, float]:
        """What the engine has done and how it stands. Safe from any thread."""
        figures = self._engine.figures
        return {**asdict(figures), "mean_occupancy": figures.mean_occupancy}

    def _deliver(self, answers: list[Answer]) -> None:
        mine: dict[int, list[Answer]] = defaultdict(list)
        for answer in answers:
            assert isinstance(answer.id, int)
            number, row_id = divmod(answer.id, _IDS_PER_PEER)
            self._rows[number].discard(answer.id)
            mine[number].append(replace(answer, id=row_id))
        for number, batch in mine.items():
            if (peer := self._peers.get(number)) is not None:
                peer.send(Answers(batch))
