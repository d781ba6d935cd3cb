"""Texts on a terminal while they grow (`--stream`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..results.text_stream import TextPart
from .exit_codes import warn
from .output import print_line, print_part

#: Characters that would end the line of an image.
_BREAKS: Final = re.compile(r"[\t\r\n]")


class LiveText:
    """A text on stdout, to which parts are added.

    With a `prefix`, the text stays on one line, after this.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        #: True once a part is shown.
        self.is_shown = False
        self._is_open = False

    def show(self, part: TextPart) -> None:
        """Show the next part of the text, after its begin or on a new line if it restarts."""
        if part.restarts:
            self.end()
            warn("the worker has changed; the text begins again")
        text = _BREAKS.sub(" ", part.text) if self._prefix else part.text
        print_part(text if self._is_open else self._prefix + text)
        self.is_shown = self._is_open = True

    def end(self) -> None:
        """End the line of the text."""
        if self._is_open:
            self._is_open = False
            print_line("")


@contextmanager
def live_text(prefix: str) -> Iterator[LiveText]:
    """Yield a text whose line ends with the block."""
    live = LiveText(prefix)
    try:
        yield live
    finally:
        live.end()


def stream_options(stream: bool, as_json: bool) -> dict[str, Any]:
    """Return the options of jobs whose texts are shown while they grow.

    Only a terminal shows them: a line in a file or a pipe, and one of JSON, is whole.
    """
    return {"stream": True} if stream and not as_json and sys.stdout.isatty() else {}
