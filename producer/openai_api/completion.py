"""Bodies of chat completions, whole or as a stream of chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .parameters import MODEL

#: Workers do not report the numbers of tokens.
USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """The answer to a chat completion."""

    id: str
    created: int
    text: str

    def body(self) -> dict[str, Any]:
        """Return the body of a response."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._object("chat.completion", [choice]) | {"usage": USAGE}

    def events(self, *, include_usage: bool) -> bytes:
        """Return server-sent events: a chunk with the text, the end, and `[DONE]`."""
        events = [json.dumps(chunk) for chunk in self._chunks(include_usage)]
        return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()

    def _chunks(self, include_usage: bool) -> Iterator[dict[str, Any]]:
        usage = {"usage": None} if include_usage else {}
        kind = "chat.completion.chunk"
        message = {"role": "assistant", "content": self.text, "refusal": None}
        for delta, reason in ((message, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            yield self._object(kind, [choice]) | usage
        if include_usage:
            yield self._object(kind, []) | {"usage": USAGE}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": MODEL,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": None,
        }
