"""Working off one chunk: check its items, get their images, ask the engine, collect the answers."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from producer import contract
from producer.contract import MAX_CHUNK_ITEMS, ErrorCode, Task
from producer.ledger import Ledger, Outcome
from worker.answers import AnswerCache
from worker.asked import Asked, result_of
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Request
from worker.items import Terms, check_item, read_terms
from worker.pictures import Picture, Pictures, Wanted
from worker.refused import Refused, Result

log = logging.getLogger(__name__)

#: Seconds between two looks at whether somebody cancelled what is running.
CANCEL_POLL_S: Final = 0.5
#: Seconds before Redis is asked again that refused.
REDIS_PAUSE_S: Final = 1.0
#: What stands for the image of an item that has none.
NO_PICTURE: Final = Picture("", None)


@dataclass(slots=True)
class _Running:
    """A chunk that is being worked off; a second delivery waits for the same results."""

    results: Future[list[Result]] = field(default_factory=Future)
    row_ids: list[int] = field(default_factory=list)


class ChunkRunner:
    """Thread-safe; one for each consumer process."""

    def __init__(
        self, ledger: Ledger, pictures: Pictures, engine: EngineClient, answers: AnswerCache
    ) -> None:
        self._ledger = ledger
        self._pictures = pictures
        self._engine = engine
        self._answers = answers
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
        return _named(items, self._answer(mine, task, items, terms))

    def _begin(self, task_id: str) -> tuple[Outcome | None, bool]:
        """Wait out a Redis that is full or away: nothing that it says is the fault of an item."""
        while True:
            try:
                return self._ledger.begin(task_id)
            except redis.RedisError as error:
                log.warning("Redis: %s; trying again in %g s", error, REDIS_PAUSE_S)
                time.sleep(REDIS_PAUSE_S)

    def _answer(self, mine: _Running, task: Task, items: list[Any], terms: Terms) -> list[Result]:
        """Results in the order of the items."""
        asked = [self._check(task, item) for item in items]
        good = [one for one in asked if isinstance(one, Asked)]
        self._recall(good, terms)
        self._submit_all(mine, [one for one in good if one.result is None], terms)
        results = [
            one.result if isinstance(one, Refused) else self._collect(mine, one, terms)
            for one in asked
        ]
        self._answers.put([one.news for one in good if one.news is not None])
        return results

    def _check(self, task: Task, item: Any) -> Asked | Refused:
        try:
            row = check_item(task, item)
            return Asked(row, Wanted(row.item.image, self._pictures.model(row.task)))
        except Refused as refusal:
            return refusal

    def _recall(self, asked: list[Asked], terms: Terms) -> None:
        """Answer what was asked before, of images whose hash is known."""
        known = [one for one in asked if one.hash is not None]
        for one in known:
            revision = one.wanted.model.revision
            one.key = self._answers.key(one.row, one.hash or "", terms, revision)
        for one, result in zip(known, self._answers.get([one.key for one in known]), strict=True):
            if result is not None:
                one.result, one.recalled = result, True

    def _submit_all(self, mine: _Running, asked: list[Asked], terms: Terms) -> None:
        """Submit each row as soon as its image is there."""
        by_image: dict[Wanted, list[Asked]] = {}
        for one in asked:
            if one.wanted.reference:
                by_image.setdefault(one.wanted, []).append(one)
            else:
                self._submit(mine, one, NO_PICTURE, terms)
        for wanted, picture in self._pictures.get(by_image):
            sharers = by_image[wanted]
            if isinstance(picture, Refused):
                for one in sharers:
                    one.result = picture.result
                continue
            for one in sharers:
                one.hash = picture.hash
            if not contract.is_blob(wanted.reference):
                # Only now is it known which image this is.
                self._recall(sharers, terms)
            for one in sharers:
                if one.result is None:
                    self._submit(mine, one, picture, terms)

    def _submit(self, mine: _Running, one: Asked, picture: Picture, terms: Terms) -> None:
        row = one.row

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
                history=row.history,
                texts=row.texts,
            )

        one.answer = self._engine.submit(build)

    def _collect(self, mine: _Running, one: Asked, terms: Terms) -> Result:
        """Wait for the engine's answer."""
        if one.result is None:
            assert one.answer is not None
            answer = one.answer.result()
            if answer.error_code == IMAGE_NEEDED:
                # Its features were evicted between the question and the row.
                picture = self._pictures.again(one.wanted)
                if isinstance(picture, Refused):
                    one.result = picture.result
                    return one.result
                self._submit(mine, one, picture, terms)
                answer = one.answer.result()
            one.result = result_of(one.row, answer)
        return one.result


def _named(items: list[Any], results: list[Result]) -> list[Result]:
    """Results with the custom ids of their items."""
    return [
        {"custom_id": item["custom_id"], **result}
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str)
        else result
        for item, result in zip(items, results, strict=True)
    ]
