"""Progress on stderr: a bar on a terminal, else a line every ten seconds.

Only a bar needs rich, whose import takes as long as a short command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from ..quantity import rate_text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

#: Receives the number of items that are done.
OnDone = Callable[[int], None]

#: Receives the number of items that are done, their total, and a note.
OnProgress = Callable[[int, int, str], None]

#: Seconds between two updates: a million items must not cost a million redraws.
UPDATE_S: Final = 0.1
#: Seconds between two lines without a terminal.
LINE_S: Final = 10.0


class ProgressLines:
    """Progress where there is no terminal, such as in a log: a line at times."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = self._shown = time.monotonic()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """Print a line unless one was printed a short time ago; without a note, with the rate."""
        now = time.monotonic()
        if now < self._shown + LINE_S:
            return
        self._shown = now
        count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        note = note or f"{rate_text(done / (now - self._started))}/s"
        click.echo(f"{self._label}: {count}, {note}", err=True)


@contextmanager
def progress_bar(label: str, total: int | None, *, prints: bool = False) -> Iterator[OnDone]:
    """Show a bar during the block; a `total` of None is unknown.

    Pass `prints` if the block prints data to stdout: on a terminal, the lines themselves show the
    progress, and there is no bar.
    """
    if not sys.stderr.isatty():
        lines = ProgressLines(label)
        yield lambda done: lines.update(done, total)
        return
    if prints and sys.stdout.isatty():
        yield lambda done: None
        return
    from rich.progress import TimeElapsedColumn

    with _progress(TimeElapsedColumn()) as progress:
        task = progress.add_task(label, total=total)
        updated = 0.0

        def update(done: int) -> None:
            nonlocal updated
            now = time.monotonic()
            if now - updated >= UPDATE_S or done == total:
                updated = now
                progress.update(task, completed=done)

        yield update


@contextmanager
def watch_bar(label: str) -> Iterator[OnProgress]:
    """Show a bar for work that other processes do, during the block."""
    if not sys.stderr.isatty():
        yield ProgressLines(label).update
        return
    from rich.progress import TextColumn

    with _progress(TextColumn("{task.fields[note]}")) as progress:
        task = progress.add_task(label, total=None, note="")

        def update(done: int, total: int, note: str) -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield update


def _progress(last: ProgressColumn) -> Progress:
    """Return a bar on stderr that disappears at the end and leaves stdout unchanged."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        last,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
