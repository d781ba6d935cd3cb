"""The text of a job while it grows, as parts.

A worker publishes the text so far, not its changes. So a reader that starts late misses nothing,
and after the death of a worker the text of the next one, which begins again, continues where it
was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Seconds between two look-ups of a text.
LOOK_UP_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class TextPart:
    """The next part of a text.

    The text is the parts joined, from the last one that `restarts` on.
    """

    text: str
    #: True if another worker has begun a different text: the parts before are void.
    restarts: bool = False


class TextParts:
    """The parts of one text that have been read."""

    def __init__(self) -> None:
        self._text = ""

    def advance(self, text: str | None, *, is_final: bool = False) -> TextPart | None:
        """Return the part that a text adds to the parts so far; None if there is none.

        Of a text that is not final, a beginning of the parts so far adds nothing: a further worker
        repeats them.
        """
        if text is None or (self._text.startswith(text) and not (is_final and text != self._text)):
            return None
        before, self._text = self._text, text
        if text.startswith(before):
            return TextPart(text[len(before) :])
        return TextPart(text, restarts=True)
