"""Texts of rows that are sent while they grow.

A partial text is a beginning of the row's final text: the detokenised tokens so far, without an end
that later tokens can change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from worker.engine.model import Generator
from worker.engine.request import RequestId
from worker.engine.row import Row

#: Seconds between two texts of a row: faster ones could not be read, and each costs a write.
INTERVAL_S: Final = 0.05
#: The end of a text that later tokens can change: spaces, a part of a character, and the beginnings
#: of contractions and of punctuation, before which tokenizers remove a space ("do n" of "don't").
_UNSTABLE: Final = re.compile(r"(?:\s(?:n'?|'[vr]?|[.,?!'])?|\ufffd)+\Z")


@dataclass(slots=True)
class _TextStream:
    """A request that receives the text of its row, and the number of tokens that it has seen."""

    row: Row
    tokens: int = 0
    text: str = ""


class TextStreams:
    """The requests whose texts are sent while they grow; nothing is computed without any."""

    def __init__(self, model: Generator | None, clock: Callable[[], float]) -> None:
        self._model, self._clock = model, clock
        self._streams: dict[RequestId, _TextStream] = {}
        self._due_at = 0.0

    def add(self, request_id: RequestId, row: Row) -> None:
        """Send the text of a row to a request."""
        self._streams[request_id] = _TextStream(row)

    def discard(self, request_id: RequestId) -> None:
        """Send nothing more to a request."""
        self._streams.pop(request_id, None)

    def texts(self) -> Iterator[tuple[RequestId, str]]:
        """Yield the texts that have grown, at most every INTERVAL_S."""
        if not self._streams or self._model is None or self._clock() < self._due_at:
            return
        self._due_at = self._clock() + INTERVAL_S
        for request_id, stream in self._streams.items():
            if len(stream.row.tokens) > stream.tokens:
                stream.tokens = len(stream.row.tokens)
                text = partial_text(self._model, stream.row)
                if len(text) > len(stream.text) and text.startswith(stream.text):
                    stream.text = text
                    yield request_id, text


def partial_text(model: Generator, row: Row) -> str:
    """Return the beginning of a row's text that further tokens do not change."""
    text = model.text(row.request, row.prompt, row.tokens)
    begins_with_prompt = row.request.task == "caption" and bool(row.request.text)
    repeated = len(row.prompt.text) if begins_with_prompt else 0
    if repeated and len(text) <= 2 * repeated + 2:
        # The model may still be repeating its prompt, which the final text then has only once.
        return ""
    return _UNSTABLE.sub("", text)
