"""A run: it collects answers, makes captions of them, and writes them."""

from __future__ import annotations

import queue
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from ..connection.outage import outage_limit
from ..errors import BliplineError, ConnectionFailed, JobUnknown
from ..job import Result
from .adoption import adopt
from .flight import SubmittedPage, parse_custom_id
from .other_rows import count_other_rows, drop_rows
from .outputs.files import FileRejected, OutputFailed
from .outputs.tables import TableOutput
from .parts import RunParts
from .planner import PicturePlan, Step
from .storage.database import is_damage
from .storage.item import ItemState, JournalItem, StoredAnswer
from .summary import OnCounts, RunCounts

#: Seconds between two looks for answers while there are none.
_POLL_S: Final = 0.02
#: Minimum seconds between two writes of a table; a slow write makes them rarer.
_TABLE_S: Final = 30.0
#: Batches in a row that Redis may lose.
_MAX_LOSSES: Final = 20
#: Error code of an image whose file of captions cannot be written.
OUTPUT_REJECTED: Final = "output_rejected"


class AnnotationRun:
    """The collecting side of a run, in the caller's thread."""

    def __init__(self, parts: RunParts, counts: RunCounts, on_counts: OnCounts) -> None:
        self._parts = parts
        self._journal, self._output, self._flight = parts.journal, parts.output, parts.flight
        self.counts = counts
        self._on_counts = on_counts
        self._ready: list[JournalItem] = []
        self._losses = 0
        self._answered_at = time.monotonic()
        self._table_at = time.monotonic() + _TABLE_S

    def run(self) -> RunCounts:
        """Annotate the collection; the caller's errors, and interrupts, leave a journal to resume.

        Raises OutputFailed, ConnectionFailed, and InvalidInput for an unusable source.
        """
        try:
            if self._journal.open_batches():
                adopt(self._parts.clients.get(), self._journal)
            self._parts.submitter.start()
            while not self._is_over():
                # The rate counts from the start of a worker on.
                self.counts.started += self._parts.clients.open_if_needed()
                if not self._step():
                    self._report_silence()
                    time.sleep(_POLL_S)
            for page in tuple(self._flight.pages):
                # Its last answer came, and its end has not been seen.
                self._close(page)
            if isinstance(self._output, TableOutput):
                drop_rows(self._parts, self.counts, self._output)
            self._journal.commit()
            self._output.write_all(self._journal)
            if not self._output.has_files:
                self.counts.other_rows = count_other_rows(self._journal)
            self._journal.write_meta("rate", str(self.counts.done / self.counts.seconds))
        except sqlite3.Error as error:
            self._abandon()
            if is_damage(error):
                raise
            message = f"{self._journal.path}: {error}. Free some space; then the same command"
            raise OutputFailed(f"{message} continues") from None
        except BaseException:
            self._abandon()
            raise
        finally:
            self._flight.stop()
            self._parts.submitter.join()
        return self.counts

    def _is_over(self) -> bool:
        if self._flight.error is not None:
            raise self._flight.error
        return self._flight.idle and self._parts.submitter.plans.empty()

    def _step(self) -> bool:
        """Do what can be done now; return False if that was nothing."""
        plans = self._take_plans()
        answers = sum(self._collect(page) for page in tuple(self._flight.pages))
        if answers:
            self.counts.answers += answers
            self._answered_at, self._losses = time.monotonic(), 0
        self._write_ready()
        self._on_counts(self.counts)
        if time.monotonic() >= self._table_at:
            self._write_table()
        return bool(plans or answers)

    def _take_plans(self) -> int:
        plans = self._parts.submitter.plans
        for taken in range(plans.maxsize):
            try:
                plan = plans.get_nowait()
            except queue.Empty:
                return taken
            self._follow(plan)
        return plans.maxsize

    def _follow(self, plan: PicturePlan | None) -> None:
        if plan is not None:
            plan.count_details(self.counts)
        if plan is None:
            self.counts.filtered += 1
        elif plan.step is Step.KEEP:
            self.counts.before += 1
        elif plan.step is Step.SKIP:
            self.counts.skipped += 1
        elif plan.step is Step.REPEATED:
            self.counts.repeated += 1
        elif plan.step is Step.FAIL:
            self.counts.fail(plan.item.code)
        elif plan.step is Step.WRITE:
            self._ready.append(plan.item)
        elif not plan.missing:
            self._finish(plan.item)

    def _collect(self, page: SubmittedPage) -> int:
        """Store the answers of a batch that are there; return their number."""
        try:
            results = page.batch.page(page.cursor, as_completed=True)
        except JobUnknown:
            self._lose(page)
            return 0
        for result in results.results:
            self._store(page, result)
        page.cursor = results.cursor
        if results.over:
            self._close(page)
            self._journal.commit()
        return len(results.results)

    def _close(self, page: SubmittedPage) -> None:
        """Forget a batch whose answers are stored."""
        self._journal.close_batch(page.batch.id)
        self._flight.remove(page)
        # Without it, Redis would forget the results after a day.
        with suppress(BliplineError):
            page.batch.delete(keep_cached=True)

    def _lose(self, page: SubmittedPage) -> None:
        """Submit the images of a batch again that a restarted Redis has forgotten."""
        self._losses += 1
        if self._losses > _MAX_LOSSES:
            raise ConnectionFailed(
                f"Redis lost {self._losses} batches in a row: is its memory full, or does it "
                "restart? The same command continues"
            )
        self._journal.close_batch(page.batch.id)
        self._flight.remove(page)

    def _store(self, page: SubmittedPage, result: Result) -> None:
        inquiry = page.inquiries[result.index]
        content, digest = inquiry.content, inquiry.request.digest
        # A lost result has no id; its index is enough.
        if result.custom_id is not None and parse_custom_id(result.custom_id) is None:
            return
        if result.error is not None:
            answer = StoredAnswer(None, result.error.code.value, result.error.message)
        else:
            answer = StoredAnswer(result.text or "")
        with self._journal.lock:
            self._journal.store_answer(content, digest, answer)
            items = self._flight.answered(content, digest)
        for item in items:
            self._finish(item, {digest: answer})

    def _finish(
        self, item: JournalItem, answers: Mapping[str, StoredAnswer] = MappingProxyType({})
    ) -> None:
        """Make the captions of an image if all of its answers are there; `answers` are some."""
        with self._journal.lock:
            resolution = self._parts.resolver.resolve(item.content, answers)
            if resolution.missing:
                self._flight.repeat(item, resolution.missing)
                return
        if resolution.failure is not None:
            item.state = ItemState.FAILED
            item.code, item.message = resolution.failure.code, resolution.failure.message
            self.counts.fail(item.code)
        else:
            questions = [text.question for text in self._parts.recipe.texts]
            item.texts = self._parts.rules.captions(
                resolution.texts, questions, item.picture, item.existing
            )
            is_answered = any(questions) and len(questions) == len(item.texts)
            item.questions = questions if is_answered else []
            item.state = ItemState.READY
            self._ready.append(item)
        self._journal.store_texts(item)

    def _write_ready(self) -> None:
        """Write the files of images whose texts are final; their texts are committed before."""
        if not self._ready:
            return
        self._journal.commit()
        ready, self._ready = self._ready, []
        try:
            for item in ready:
                self._write(item)
        finally:
            self._journal.mark(ready)

    def _write(self, item: JournalItem) -> None:
        try:
            self._output.write(item)
            item.state = ItemState.DONE
            self.counts.done += 1
        except FileRejected as error:
            item.state = ItemState.FAILED
            item.code, item.message = OUTPUT_REJECTED, str(error)
            self.counts.fail(item.code)

    def _write_table(self) -> None:
        """Write a table in between, so seldom that it takes a twentieth of the time."""
        started = time.monotonic()
        self._journal.commit()
        self._output.write_interim(self._journal)
        ended = time.monotonic()
        self._table_at = ended + max(_TABLE_S, 20 * (ended - started))

    def _report_silence(self) -> None:
        if self._flight.pages:
            watch = self._parts.clients.get().worker_watch
            watch.look(time.monotonic() - self._answered_at)

    def _abandon(self) -> None:
        """Cancel what is in flight, and keep what is there, as far as possible."""
        self._flight.stop()
        with suppress(BliplineError), outage_limit(0.0):
            for page in self._flight.pages:
                page.batch.cancel()
        with suppress(BliplineError, sqlite3.Error, OSError):
            self._journal.commit()
            # A run without a caption, as without Redis, leaves the output as it is.
            if self.counts.done:
                self._output.write_all(self._journal)
