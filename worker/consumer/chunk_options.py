"""Generation options of a message, which any client may have written, and of each of its items."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from producer.cli.option_checks import task_error
from producer.contract import MAX_DEADLINE_S, ErrorCode, Options
from producer.validation import format_errors
from worker.consumer.validation import CheckedItem
from worker.engine.request import GenerationOptions
from worker.errors import ItemRejected

_DEFAULTS: Final = Options()


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """The options of all items of a chunk."""

    decoding: GenerationOptions
    #: time.monotonic() seconds.
    deadline: float | None
    interactive: bool
    #: True if the text is published while it grows.
    streams: bool = False
    #: The same as the message has them; an item may replace some.
    checked: Options = _DEFAULTS

    def of_item(self, item: CheckedItem) -> GenerationOptions:
        """Return the options of an item. Raises ItemRejected if they are invalid together."""
        checked, decoding = self.checked, self.decoding
        if item.item.options is not None:
            own = item.item.options.model_dump(exclude_unset=True)
            common = self.checked.model_dump(exclude_unset=True)
            checked = Options.model_validate({**common, **own})
            decoding = _decoding(checked)
        message = task_error(checked, item.task, ranks=bool(item.answers))
        if message is not None:
            raise ItemRejected(ErrorCode.OPTION_INVALID, message)
        return decoding


def read_options(
    options: Any, interactive: bool, now: float, deadline_at: float | None = None
) -> ChunkOptions:
    """Check a chunk's options. Raises ItemRejected if they are invalid or the deadline is past.

    `now` and `deadline_at` are Unix seconds by Redis's clock. The ledger's deadline precedes that
    of the options, which plain messages and older producers set by their own clock.
    """
    try:
        checked = Options.model_validate(options or {})
    except ValidationError as error:
        raise ItemRejected(ErrorCode.OPTION_INVALID, format_errors(error, Options)) from None
    decoding = _decoding(checked)
    deadline = checked.deadline
    if deadline_at is not None:
        deadline = deadline_at
    if deadline is not None:
        # The clocks of hosts differ, and the monotonic clock never jumps.
        remaining_s = deadline - now
        if remaining_s <= 0:
            raise ItemRejected(
                ErrorCode.DEADLINE_EXCEEDED, f"started {-remaining_s:.1f} s after its deadline"
            )
        # A deadline given in milliseconds would exceed the range of the clock.
        deadline = time.monotonic() + min(remaining_s, MAX_DEADLINE_S)
    return ChunkOptions(decoding, deadline, interactive, checked.stream and interactive, checked)


def _decoding(checked: Options) -> GenerationOptions:
    """Return the engine's form of options. Raises ItemRejected if they exclude each other."""
    if (message := checked.combination_error()) is not None:
        raise ItemRejected(ErrorCode.OPTION_INVALID, message)
    decoding = checked.model_dump(exclude={"deadline", "stream", "do_sample"})
    decoding["temperature"] = checked.sampling_temperature
    # Immutable, so that equal rows find each other.
    decoding |= {name: tuple(value) for name, value in decoding.items() if type(value) is list}
    return GenerationOptions(**decoding)
