"""Progress of an annotation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..annotate.summary import OnCounts, RunCounts
from .progress import UPDATE_S, watch_bar


@contextmanager
def annotation_progress() -> Iterator[OnCounts]:
    """Yield a callback that shows the counts of a run."""
    shown = 0.0
    with watch_bar("annotating") as update:

        def show(counts: RunCounts) -> None:
            nonlocal shown
            if time.monotonic() >= shown + UPDATE_S:
                shown = time.monotonic()
                total = counts.seen if counts.total is None else counts.total
                update(counts.seen, total, counts.progress_note())

        yield show
