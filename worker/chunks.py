"""Working off one chunk: check its items, get their images, ask the engine, collect the texts."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from producer import contract
from producer.contract import MAX_CHUNK_ITEMS, ErrorCode, Task
from producer.ledger import Ledger, Outcome
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Answer, Request
from worker.fetch import Fetched, Fetcher
from worker.images import Decoder
from worker.items import Row, Terms, check_item, read_terms
from worker.refused import Refused, Result

log = logging.getLogger(__name__)

#: Seconds between two looks at whether somebody cancelled what is running.
CANCEL_POLL_S: Final = 0.5
#: Seconds before Redis is asked again that refused.
REDIS_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class _Running:
    """A chunk that is being worked off; a second delivery waits for the same results."""

    results: Future[list[Result]] = field(default_factory=Future)
    row_ids: list[int] = field(default_factory=list)


class ChunkRunner:
    """Thread-safe; one for each consumer process."""

    def __init__(
        self, ledger: Ledger, fetcher: Fetcher, decoder: Decoder, engine: EngineClient
    ) -> None:
        self._ledger = ledger
        self._fetcher = fetcher
        self._decoder = decoder
        self._engine = engine
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}

    def watch_cancellations(self, stop: threading.Event) -> None:
        """Until `stop`, end rows that somebody has cancelled. Runs in a thread of its own."""
        while not stop.wait(CANCEL_POLL_S):
            with self._lock:
                running = dict(self._running)
            try:
                cancelled = self._ledger.cancelled(list(running)) if running else set()
            except Exception:
                log.warning("cannot look for cancellations", exc_info=True)
                continue
            for task_id in cancelled:
                self._engine.cancel(running[task_id].row_ids)

    def run(
        self, task_id: str, task: Task, items: Any, options: Any, *, interactive: bool
    ) -> list[Result]:
        """One result for each item, in order; raises nothing that an item could cause."""
        with self._lock:
            first = self._running.get(task_id)
            if first is None:
                mine = self._running[task_id] = _Running()
        if first is not None:
            return first.results.result()
        try:
            results = self._run(mine, task_id, task, items, options, interactive)
        except Exception as error:
            log.exception("chunk %s failed", task_id)
            results = [contract.failure(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")]
            results *= len(items) if isinstance(items, list) else 1
        finally:
            with self._lock:
                del self._running[task_id]
        mine.results.set_result(results)
        return results

    def _run(
        self,
        mine: _Running,
        task_id: str,
        task: Task,
        items: Any,
        options: Any,
        interactive: bool,
    ) -> list[Result]:
        if not isinstance(items, list) or not 0 < len(items) <= MAX_CHUNK_ITEMS:
            about = f"items: a list of 1 to {MAX_CHUNK_ITEMS} objects is needed"
            return [contract.failure(ErrorCode.OPTION_INVALID, about)]
        stored, cancelled = self._begin(task_id)
        if stored is not None and stored.results is not None:
            return stored.results
        try:
            if cancelled:
                raise Refused(ErrorCode.CANCELLED, "cancelled before it was begun")
            terms = read_terms(options, interactive)
        except Refused as refusal:
            return _named(items, [refusal.result] * len(items))
        asked = self._ask(mine, task, items, terms)
        return _named(items, [self._collect(mine, one, terms) for one in asked])

    def _begin(self, task_id: str) -> tuple[Outcome | None, bool]:
        """Wait out a Redis that is full or away: nothing that it says is the fault of an item."""
        while True:
            try:
                return self._ledger.begin(task_id)
            except redis.RedisError as error:
                log.warning("Redis: %s; trying again in %g s", error, REDIS_PAUSE_S)
                time.sleep(REDIS_PAUSE_S)

    def _ask(
        self, mine: _Running, task: Task, items: list[Any], terms: Terms
    ) -> list[_Asked | Refused]:
        """Submit the row of each item as soon as its image is there; in the order of the items."""
        asked: dict[int, _Asked | Refused] = {}
        by_image: dict[str, list[tuple[int, Row]]] = defaultdict(list)
        for place, item in enumerate(items):
            try:
                row = check_item(task, item)
                by_image[row.item.image].append((place, row))
            except Refused as refusal:
                asked[place] = refusal
        for reference, picture in self._pictures(list(by_image)):
            for place, row in by_image[reference]:
                asked[place] = (
                    picture
                    if isinstance(picture, Refused)
                    else _Asked(row, self._submit(mine, row, picture, terms))
                )
        return [asked[place] for place in range(len(items))]

    def _pictures(self, references: list[str]) -> Iterator[tuple[str, _Picture | Refused]]:
        """Each reference with its picture, those first whose features the engine has already."""
        hashes = {one: contract.blob_hash(one) for one in references if contract.is_blob(one)}
        held = self._engine.held(hashes.values())
        missing = []
        for reference in references:
            digest = hashes.get(reference)
            if digest in held:
                yield reference, _Picture(digest, None)
            else:
                missing.append(reference)
        for reference, fetched in zip(missing, self._fetcher.fetch(missing), strict=True):
            yield reference, self._decode(reference, fetched)

    def _decode(self, reference: str, fetched: Fetched) -> _Picture | Refused:
        if isinstance(fetched, Refused):
            return fetched
        try:
            pixels = self._decoder.decode(fetched)
        except Refused as refusal:
            return refusal
        if contract.is_blob(reference):
            return _Picture(contract.blob_hash(reference), pixels)
        return _Picture(hashlib.sha256(fetched).hexdigest(), pixels)

    def _submit(self, mine: _Running, row: Row, picture: _Picture, terms: Terms) -> Future[Answer]:
        def build(row_id: int) -> Request:
            mine.row_ids.append(row_id)
            return Request(
                id=row_id,
                task=row.task.short,
                image_hash=picture.hash,
                pixels=picture.pixels,
                text=row.text,
                options=terms.options,
                interactive=terms.interactive,
                deadline=terms.deadline,
            )

        return self._engine.submit(build)

    def _collect(self, mine: _Running, asked: _Asked | Refused, terms: Terms) -> Result:
        """Wait for the engine's answer."""
        if isinstance(asked, Refused):
            return asked.result
        answer = asked.answer.result()
        if answer.error_code == IMAGE_NEEDED:
            # Its features were evicted between the question and the row.
            reference = asked.row.item.image
            (fetched,) = self._fetcher.fetch([reference])
            picture = self._decode(reference, fetched)
            if isinstance(picture, Refused):
                return picture.result
            answer = self._submit(mine, asked.row, picture, terms).result()
        if answer.error_code is not None:
            return contract.failure(answer.error_code, answer.error_message)
        return {"text": answer.text}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row that the engine has been given."""

    row: Row
    answer: Future[Answer]


@dataclass(frozen=True, slots=True)
class _Picture:
    """Pixels as the model takes them; None where the engine has the features already."""

    hash: str
    pixels: bytes | None


def _named(items: list[Any], results: list[Result]) -> list[Result]:
    """Results with the custom ids of their items."""
    return [
        {"custom_id": item["custom_id"], **result}
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str)
        else result
        for item, result in zip(items, results, strict=True)
    ]
