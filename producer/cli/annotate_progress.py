"""Progress of an annotation: a bar on a terminal, else a line at times."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from ..annotate.summary import OnCounts, RunCounts
from .progress import UPDATE_S, OnProgress, watch_bar

#: Seconds between two lines without a terminal.
LINE_S: Final = 10.0


@contextmanager
def annotation_progress() -> Iterator[OnCounts]:
    """Yield a callback that shows the counts of a run."""
    if sys.stderr.isatty():
        with watch_bar("annotating") as update:
            yield _bar(update)
    else:
        yield _lines()


def _bar(update: OnProgress) -> OnCounts:
    shown = 0.0

    def show(counts: RunCounts) -> None:
        nonlocal shown
        if time.monotonic() >= shown + UPDATE_S:
            shown = time.monotonic()
            total = counts.seen if counts.total is None else counts.total
            update(counts.seen, total, counts.progress_line())

    return show


def _lines() -> OnCounts:
    shown = time.monotonic()

    def show(counts: RunCounts) -> None:
        nonlocal shown
        if time.monotonic() >= shown + LINE_S:
            shown = time.monotonic()
            click.echo(counts.progress_line(), err=True)

    return show
