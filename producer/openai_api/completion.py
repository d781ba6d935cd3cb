"""Bodies of chat completions, whole or as a stream of chunks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..job import Result
from .choices import ChoiceFormat
from .parameters import MODEL


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """A chat completion, and its parts that do not depend on the text."""

    id: str
    created: int
    form: ChoiceFormat

    def body(self, result: Result) -> dict[str, Any]:
        """Return the body of a response."""
        choices = [
            self.form.choice(sequence, index) for index, sequence in enumerate(result.sequences)
        ]
        return self._object("chat.completion", choices) | {"usage": usage_of(result)}

    def delta(self, index: int, content: str, *, is_first: bool) -> dict[str, Any]:
        """Return a chunk with the next part of a choice."""
        message: dict[str, Any] = {"content": content}
        if is_first:
            message = {"role": "assistant", "refusal": None} | message
        return self._chunk(
            {"index": index, "delta": message, "logprobs": None, "finish_reason": None}
        )

    def ends(self, result: Result) -> list[dict[str, Any]]:
        """Return the chunk that ends each choice."""
        return [
            self._chunk({"index": index, "delta": {}} | self.form.end(sequence))
            for index, sequence in enumerate(result.sequences)
        ]

    def usage(self, result: Result) -> dict[str, Any]:
        """Return the chunk with the numbers of tokens."""
        return self._object("chat.completion.chunk", []) | {"usage": usage_of(result)}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self._object("chat.completion.chunk", [choice])

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


def usage_of(result: Result) -> dict[str, int]:
    """Return the numbers of tokens; the image's count as tokens of the prompt."""
    sequences = result.text_sequences
    prompt = 0 if sequences is None else sequences.prompt_tokens or 0
    completion = sum(len(sequence.tokens) for sequence in result.sequences)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def event_of(body: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(body)}\n\n".encode()
