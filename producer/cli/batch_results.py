"""Results of a batch, written as they arrive, with instructions to resume."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..batch import Batch
from ..errors import WaitTimeout
from ..quantity import quantity
from .exit_codes import Exit, warn
from .output import WriteJson, print_json
from .progress import progress_bar


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Order, position and timeout of reading results."""

    timeout_s: float | None
    as_completed: bool = False
    cursor: int = 0

    def resume_command(self, batch_id: str) -> str:
        """Return the command that continues from the cursor."""
        order = " --as-completed" if self.as_completed else ""
        cursor = f" --cursor {self.cursor}" if self.cursor else ""
        return f"blipline batch results {batch_id}{order}{cursor}"


def write_results(batch: Batch, read: ReadOptions, write: WriteJson) -> Exit:
    """Write all results; if it is interrupted, report the command that continues."""
    written = failed = 0
    # A file is written completely or not at all, so only stdout can be continued.
    streams = write is print_json
    try:
        with progress_bar("waiting", batch.progress().total, prints=streams) as on_done:
            for result in batch.results(
                read.timeout_s, cursor=read.cursor, as_completed=read.as_completed
            ):
                position = {"index": result.index, "cursor": result.cursor}
                write(result.to_json() | (position if read.as_completed else {}))
                written, failed = written + 1, failed + (not result.ok)
                if streams:
                    read = replace(read, cursor=result.cursor)
                on_done(result.cursor)
    except KeyboardInterrupt:
        warn(f"the batch continues. To read its results: {read.resume_command(batch.id)}")
        raise
    except WaitTimeout as error:
        command = read.resume_command(batch.id)
        raise WaitTimeout(f"{error}. To read its results: {command}") from None
    if failed:
        warn(f"{failed:,} of {quantity(written, 'item')} failed")
    incomplete = read.as_completed and _is_incomplete(batch)
    return Exit.SOME_FAILED if failed or incomplete else Exit.OK


def _is_incomplete(batch: Batch) -> bool:
    """Return whether the batch was cancelled before all its items ended; warn if so."""
    progress = batch.progress()
    if progress.finished:
        return False
    ended = f"{progress.done:,} of {quantity(progress.total, 'item')}"
    warn(f"the batch was cancelled; ended: {ended}")
    return True
