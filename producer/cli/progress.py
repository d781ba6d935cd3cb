"""Progress bars on stderr, for people only: nothing of them reaches a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

#: Hears how many items are done so far.
OnDone = Callable[[int], None]

#: Shows how many items are done, of how many, and a note.
Show = Callable[[int, int, str], None]

#: Seconds between two updates: a million items must not cost a million redraws.
UPDATE_S: Final = 0.1


@contextmanager
def bar(about: str, total: int | None, *, prints: bool = False) -> Iterator[OnDone]:
    """A bar while the block runs; a total of None is not known yet.

    None where the block `prints` its data to the same terminal: the lines are progress enough,
    and a bar would stand in their way.
    """
    if not sys.stderr.isatty() or (prints and sys.stdout.isatty()):
        yield lambda done: None
        return
    with _progress(TimeElapsedColumn()) as progress:
        task = progress.add_task(about, total=total)
        updated = 0.0

        def update(done: int) -> None:
            nonlocal updated
            now = time.monotonic()
            if now - updated >= UPDATE_S or done == total:
                updated = now
                progress.update(task, completed=done)

        yield update


@contextmanager
def live(about: str) -> Iterator[Show]:
    """A bar of what others do, for as long as the block looks on."""
    if not sys.stderr.isatty():
        yield lambda done, total, note: None
        return
    with _progress(TextColumn("{task.fields[note]}")) as progress:
        task = progress.add_task(about, total=None, note="")

        def show(done: int, total: int, note: str) -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield show


def _progress(last: ProgressColumn) -> Progress:
    """On stderr, gone in the end; data passes by untouched."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        last,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
