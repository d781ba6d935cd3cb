"""A batch's results, written as they come, and what to say when that ends early."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..batch import Batch
from ..errors import WaitTimeout
from .exit_codes import Exit, warn
from .output import WriteJson, print_json
from .progress import bar


@dataclass(frozen=True, slots=True)
class BatchReading:
    """How results are read."""

    timeout_s: float | None
    as_completed: bool = False
    cursor: int = 0

    def command(self, batch_id: str) -> str:
        """What reads on from here."""
        order = " --as-completed" if self.as_completed else ""
        place = f" --cursor {self.cursor}" if self.cursor else ""
        return f"blipline batch results {batch_id}{order}{place}"


def collect(one: Batch, reading: BatchReading, write: WriteJson) -> Exit:
    """Write every result; whatever ends the wait says how to go on."""
    read = failed = 0
    # Of a file there is all or nothing.
    streams = write is print_json
    try:
        with bar("waiting", one.progress().total, prints=streams) as on_done:
            for result in one.results(
                reading.timeout_s, cursor=reading.cursor, as_completed=reading.as_completed
            ):
                place = {"index": result.index, "cursor": result.cursor}
                write(result.to_json() | (place if reading.as_completed else {}))
                read, failed = read + 1, failed + (not result.ok)
                if streams:
                    reading = replace(reading, cursor=result.cursor)
                on_done(result.cursor)
    except KeyboardInterrupt:
        warn(f"the batch goes on. Its results: {reading.command(one.id)}")
        raise
    except WaitTimeout as error:
        raise WaitTimeout(f"{error}. Its results: {reading.command(one.id)}") from None
    if failed:
        warn(f"{failed:,} of {read:,} items failed")
    return Exit.SOME_FAILED if failed or _cut_short(one, reading) else Exit.OK


def _cut_short(one: Batch, reading: BatchReading) -> bool:
    """Whether items have no result that could have been read."""
    if not reading.as_completed:
        return False
    now = one.progress()
    if now.finished:
        return False
    warn(f"the batch is cancelled; {now.done:,} of {now.total:,} items had ended")
    return True
