"""An update of an index: embeds new and changed entries through the queue, removes the others.

Contents are submitted in batches whose ids are stored first, and whose results carry the hash of
their content. So after a crash of this process, the next update reads the results of its batches.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from ..batch import Batch
from ..contract import LASTING_CODES, ErrorCode, Task
from ..errors import InvalidInput, JobUnknown
from ..image_sources.image_bytes import ImageBytes
from ..job import Result
from ..ledger.ids import new_id
from ..quantity import quantity
from . import sources
from .counts import IndexCounts, OnCounts, OnFailure
from .entry import Entry, Kind, Unreadable
from .extras import required
from .fingerprint import Fingerprint
from .storage.store import IndexStore, KnownEntry, StoredFailure

if TYPE_CHECKING:
    from ..client import Client

#: Contents of one batch: 10 MB of results in Redis with 1,000 dimensions.
SEGMENT_ITEMS: Final = 512
#: Batches submitted ahead, so that workers do not wait for this process.
MAX_BATCHES: Final = 4
#: Results between two commits.
_COMMIT_RESULTS: Final = 256
#: Errors that another attempt would repeat: only `retry_failed` submits such contents again.
PERMANENT: Final = LASTING_CODES | {
    ErrorCode.IMAGE_TOO_LARGE,
    ErrorCode.IMAGE_BLOCKED,
    ErrorCode.POISONED,
}


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """The options of an update."""

    #: Submit contents again that failed for good.
    retry_failed: bool = False
    #: Submitter queue of the batches.
    submitter: str = ""
    #: Seconds to wait for the next result; None: no limit.
    timeout_s: float | None = None
    on_counts: OnCounts = lambda counts: None
    on_failure: OnFailure = lambda name, message: None
    #: Column of tables that has the image; None: the first of the known names.
    image_column: str | None = None
    #: Also remove the entries of a source without any entry now. It may be a disk that is not
    #: mounted, so by default they stay, and the source counts as failed.
    prune_empty: bool = False


class IndexUpdate:
    """An update of the stored entries and vectors; the caller has the write lock."""

    def __init__(
        self, client: Client, store: IndexStore, fingerprint: Fingerprint, options: UpdateOptions
    ) -> None:
        self.counts = IndexCounts()
        self._client = client
        self._store = store
        self._fingerprint = fingerprint
        self._options = options
        self._reader = ImageBytes()
        #: Contents without a result.
        self._waiting: set[str] = set()
        #: Sources that could not be read completely.
        self._incomplete: set[str] = set()
        #: Entries of each source.
        self._entries: Counter[str] = Counter()

    def run(self, names: Sequence[str]) -> IndexCounts:
        """Update the entries of these sources; raises InvalidInput if a source does not exist."""
        for name in names:
            sources.check(name)
        for batch_id in self._store.batches():
            self._collect_earlier(self._client.batch(batch_id))
        self._embed(chain.from_iterable(map(self._items, names)))
        self._remove(names)
        self._report()
        return self.counts

    def _embed(self, items: Iterator[dict[str, Any]]) -> None:
        """Submit items in batches and store the results, in bounded memory."""
        batches: deque[Batch] = deque()
        for first in items:
            segment = chain([first], islice(items, SEGMENT_ITEMS - 1))
            batch_id = new_id()
            self._store.add_batch(batch_id)
            submitter = self._options.submitter or None
            batches.append(
                self._client.submit_batch(
                    segment, Task.EMBED, batch_id=batch_id, submitter=submitter
                )
            )
            if len(batches) == MAX_BATCHES:
                self._collect(batches.popleft())
        while batches:
            self._collect(batches.popleft())

    def _items(self, source: str) -> Iterator[dict[str, Any]]:
        """Yield the items of contents without a vector; store the entries of a source."""
        name = sources.canonical(source)
        for entry in sources.entries(source, self._options.image_column, str(self._store.folder)):
            if isinstance(entry, Unreadable):
                self._fail(entry.name, entry.message)
                if entry.hides_entries:
                    self._incomplete.add(name)
            else:
                self.counts.entries += 1
                self._entries[name] += 1
                if (item := self._item(entry, name)) is not None:
                    yield item
            self._report()

    def _item(self, entry: Entry, source: str) -> dict[str, Any] | None:
        """Store an entry; return the item that embeds its content, if it needs one."""
        known = self._store.known(entry.key)
        if known and self._is_settled(known, entry.stamp):
            self._store.mark_seen(known.id)
            self.counts.unchanged += 1
            if known.failure and not known.embedded:
                self._fail_again(entry.name, known.failure)
            return None
        try:
            content, data = entry.read(self._reader)
        except InvalidInput as error:
            if known:
                # A file that cannot be read now may be readable later.
                self._store.mark_seen(known.id)
            self._fail(entry.name, str(error))
            return None
        same = known is not None and known.content == content
        self.counts.unchanged += same
        self.counts.changed += not same
        self._store.put(entry, content, source)
        if self._store.has_vector(content) or content in self._waiting:
            return None
        failure = self._store.failure(content)
        if failure and self._is_final(failure):
            self._fail_again(entry.name, failure)
            return None
        self._waiting.add(content)
        field = "text" if entry.kind is Kind.TEXT else "image"
        return {field: data, "custom_id": f"{entry.kind}:{content}"}

    def _is_settled(self, known: KnownEntry, stamp: str) -> bool:
        """Return whether a file is the same, and has a vector or an error that stays."""
        if not stamp or known.stamp != stamp:
            return False
        return known.embedded or (known.failure is not None and self._is_final(known.failure))

    def _is_final(self, failure: StoredFailure) -> bool:
        return failure.code in PERMANENT and not self._options.retry_failed

    def _collect_earlier(self, batch: Batch) -> None:
        """Store the results of a batch of a run that was interrupted."""
        try:
            batch.close()
        except JobUnknown:
            # It was interrupted before the submission, or the results have expired.
            self._store.forget_batch(batch.id)
            return
        self._collect(batch)

    def _collect(self, batch: Batch) -> None:
        """Store the results of a batch, then delete it."""
        try:
            for number, result in enumerate(batch.results(self._options.timeout_s), start=1):
                self._store_result(result)
                if number % _COMMIT_RESULTS == 0:
                    self._store.commit()
        except JobUnknown:
            # Redis has lost it; the entries without a vector are reported at the end.
            self._store.forget_batch(batch.id)
            return
        self._store.commit()
        batch.delete(keep_cached=True)
        self._store.forget_batch(batch.id)

    def _store_result(self, result: Result) -> None:
        kind, _, content = (result.custom_id or "").partition(":")
        if not content:
            # The result has expired.
            return
        self._waiting.discard(content)
        if result.error is not None:
            self._store.add_failure(content, result.error.code, result.error.message)
            for name in self._store.names_of(content):
                self._fail(name, f"{result.error.message} ({result.error.code})")
        else:
            # Workers of earlier versions send no revision; the first probe has checked them.
            if result.revision or len(result.embedding or ()) != self._fingerprint.dimensions:
                for revision in self._fingerprint.confirm(self._client, result):
                    self._store.add_revision(revision)
            vector = required("numpy").asarray(result.embedding, dtype="float16")
            self._store.add_vector(content, Kind(kind), vector.tobytes())
            self.counts.embedded += 1
        self._report()

    def _remove(self, names: Sequence[str]) -> None:
        """Remove entries that are no longer in their source, as far as that is certain."""
        complete = {sources.canonical(name) for name in names} - self._incomplete - {"-"}
        if not self._options.prune_empty:
            complete -= self._emptied(complete)
        self.counts.removed = self._store.remove_unseen(sorted(complete))
        self._store.remove_orphans()
        for name in self._store.pending():
            self._fail(name, "its result was lost; the next run submits it again")
        known = set(json.loads(self._store.meta("sources") or "[]"))
        names_kept = known | {sources.canonical(name) for name in names} - {"-"}
        self._store.set_meta("sources", json.dumps(sorted(names_kept)))
        self._store.commit()

    def _emptied(self, names: set[str]) -> set[str]:
        """Report and return the sources that had entries before and have none."""
        emptied = set()
        for name in names:
            if not self._entries[name] and (count := self._store.count_entries(name)):
                emptied.add(name)
                self._fail(
                    name,
                    f"there is nothing now, and the index has {quantity(count, 'entry')} of it: "
                    "they stay, since a disk may not be mounted. --prune-empty removes them",
                )
        return emptied

    def _fail(self, name: str, message: str) -> None:
        self.counts.failed += 1
        self._options.on_failure(name, message)

    def _fail_again(self, name: str, failure: StoredFailure) -> None:
        """Report an error of an earlier run."""
        again = "" if failure.code in LASTING_CODES else "; --retry-failed submits it again"
        self._fail(name, f"{failure.message} ({failure.code}{again})")

    def _report(self) -> None:
        self.counts.waiting = len(self._waiting)
        self._options.on_counts(self.counts)
