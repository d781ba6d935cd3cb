"""An estimate of a run: what it would do, and how long it would take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..client import Client
from ..errors import InvalidInput
from ..image_sources.picture import Picture
from ..quantity import quantity, rate_text
from .collection import Collection
from .flight import Inquiry
from .planner import Step
from .summary import duration

#: Images that measure the rate, and those of them whose answers count: the first ones wait for the
#: model to warm up.
_PROBE_IMAGES: Final = 96
_PROBE_STEADY: Final = 64
#: Reasons of failed images that are shown.
_ERRORS: Final = 5


@dataclass
class RunEstimate:
    """The plan of a run."""

    images: int = 0
    before: int = 0
    skipped: int = 0
    filtered: int = 0
    failed: int = 0
    #: Reasons of the first failed images.
    errors: list[str] = field(default_factory=list)
    #: Images whose captions would be written.
    written: int = 0
    #: Rows of a table that are of images that the run does not see.
    other_rows: int = 0
    prunes: bool = False
    #: Texts that the model would write.
    requests: int = 0
    bytes: int = 0
    #: Texts per second; None: not measured.
    rate: float | None = None
    probe: list[tuple[Inquiry, Picture]] = field(default_factory=list)

    def fail(self, message: str) -> None:
        """Count an image that cannot be read."""
        self.failed += 1
        if len(self.errors) < _ERRORS:
            self.errors.append(message)

    @property
    def seconds(self) -> float | None:
        """Seconds of the run; None if the rate is not known."""
        if self.requests == 0:
            return 0.0
        return self.requests / self.rate if self.rate else None

    def lines(self) -> list[str]:
        """Return the estimate for people."""
        time_needed = "unknown" if self.seconds is None else f"about {duration(self.seconds)}"
        at_rate = f" at {rate_text(self.rate)} texts/s" if self.rate and self.requests else ""
        return [
            f"{quantity(self.images, 'image')}: {self.written:,} would get captions, "
            f"{self.before:,} done before, {self.skipped:,} with captions (--existing), "
            f"{self.filtered:,} filtered out, {self.failed:,} unreadable",
            f"the model would write {quantity(self.requests, 'text')} from "
            f"{self.bytes / 1e6:,.1f} MB of images; time: {time_needed}{at_rate}",
            *self._other_rows_lines(),
            *(f"cannot be read: {message}" for message in self.errors),
        ]

    def _other_rows_lines(self) -> list[str]:
        if not self.other_rows:
            return []
        fate = "would be removed (--prune)" if self.prunes and self.images else "would stay"
        return [f"{quantity(self.other_rows, 'row')} of images outside this run {fate}"]

    def to_json(self) -> dict[str, Any]:
        """Return the estimate for programs."""
        return {
            "images": self.images,
            "would_annotate": self.written,
            "done_before": self.before,
            "skipped": self.skipped,
            "filtered": self.filtered,
            "failed": self.failed,
            "other_rows": self.other_rows,
            "errors": self.errors,
            "requests": self.requests,
            "bytes": self.bytes,
            "requests_per_s": self.rate,
            "seconds": self.seconds,
        }


def estimate(
    collection: Collection, client: Callable[[], Client], on_image: Callable[[int], None]
) -> RunEstimate:
    """Plan each image of a collection that was opened for a dry run; write nothing.

    The rate is that of the last run with this journal, else measured with some images of the
    collection through `client()`, which is called only then.
    """
    result = RunEstimate()
    pending: set[tuple[str, str]] = set()
    for position, picture in enumerate(collection.pictures()):
        result.images += 1
        on_image(result.images)
        _plan(collection, picture, position, result, pending)
    result.requests = len(pending)
    result.other_rows = collection.journal.count_unseen_rows()
    result.prunes = collection.options.prune
    stored = float(collection.journal.read_meta("rate") or 0)
    if stored:
        result.rate = stored * len(collection.recipe.texts)
    elif result.requests:
        result.rate = _measure(collection, client(), result.probe)
    return result


def _plan(
    collection: Collection,
    picture: Picture,
    position: int,
    result: RunEstimate,
    pending: set[tuple[str, str]],
) -> None:
    try:
        if not collection.belongs(picture):
            result.filtered += 1
            return
    except InvalidInput as error:
        result.fail(str(error))
        return
    plan = collection.planner.plan(picture, position)
    if plan.step is Step.REPEATED:
        return
    collection.journal.store_item(plan.item)
    if plan.step is Step.KEEP:
        result.before += 1
    elif plan.step is Step.SKIP:
        result.skipped += 1
    elif plan.step is Step.FAIL:
        result.fail(plan.item.message or "")
    else:
        result.written += 1
    if plan.step is not Step.ANSWER:
        return
    new = [
        Inquiry(plan.item.content, request)
        for request in collection.resolver.resolve(plan.item.content).missing
        if (plan.item.content, request.digest) not in pending
    ]
    if not new:
        return
    pending.update((inquiry.content, inquiry.request.digest) for inquiry in new)
    result.bytes += len(plan.image)
    if len(result.probe) < _PROBE_IMAGES:
        result.probe += [(inquiry, picture) for inquiry in new if not _differs(inquiry, result)]


def _differs(inquiry: Inquiry, result: RunEstimate) -> bool:
    """Return whether the options differ from those of the probe, which is one batch."""
    return bool(result.probe) and result.probe[0][0].request.lane != inquiry.request.lane


def _measure(
    collection: Collection, client: Client, probe: list[tuple[Inquiry, Picture]]
) -> float | None:
    """Return the texts per second of some images of the collection."""
    if not probe:
        return None
    request = probe[0][0].request
    items = (
        {**inquiry.request.fields, "image": collection.reader.read(picture.locator)}
        for inquiry, picture in probe
    )
    started = time.monotonic()
    batch = client.submit_batch(items, request.task, **request.options)
    times = [time.monotonic() for _ in batch.results(as_completed=True)]
    batch.delete(keep_cached=True)
    if len(times) <= _PROBE_STEADY:
        return len(times) / (times[-1] - started)
    first = len(times) - _PROBE_STEADY
    return _PROBE_STEADY / max(times[-1] - times[first - 1], 1e-6)
