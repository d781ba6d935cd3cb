"""Choices of a completion: texts cut at stop texts, finish reasons, log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ..results.text_sequences import ScoredToken, TextSequence
from .errors import OpenAIError
from .parameters import boolean, invalid_type

#: Maximum stop texts of a request, as OpenAI's.
MAX_STOPS: Final = 4


@dataclass(frozen=True, slots=True)
class ChoiceFormat:
    """The parameters that shape choices."""

    #: Texts that end a choice, which does not contain them.
    stop: tuple[str, ...] = ()
    logprobs: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Read the parameters of a request; raises OpenAIError."""
        stop = parameters.get("stop", ())
        stops = (stop,) if isinstance(stop, str) else stop
        if not isinstance(stops, list | tuple):
            raise invalid_type("stop", "a string or an array of strings", stop)
        if len(stops) > MAX_STOPS or not all(isinstance(text, str) and text for text in stops):
            message = f"'stop' must be a string that is not empty, or an array of 1 to {MAX_STOPS}"
            raise OpenAIError(message, param="stop")
        return cls(tuple(stops), boolean(parameters, "logprobs"))

    def to_json(self) -> dict[str, Any]:
        """Return the parameters."""
        return {"stop": [*self.stop], "logprobs": self.logprobs}

    def cut(self, text: str) -> str:
        """Return a text up to the first stop text, or up to one that it may have begun."""
        content = self.content(text)
        if content != text:
            return content
        pending = (
            size
            for stop in self.stop
            for size in range(min(len(stop) - 1, len(text)), 0, -1)
            if text.endswith(stop[:size])
        )
        return text[: len(text) - max(pending, default=0)]

    def content(self, text: str) -> str:
        """Return a whole text up to the first stop text."""
        ends = [end for stop in self.stop if (end := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))]

    def choice(self, sequence: TextSequence, index: int) -> dict[str, Any]:
        """Return a choice of a completion."""
        message = {
            "role": "assistant",
            "content": self.content(sequence.text),
            "refusal": None,
        }
        return {"index": index, "message": message} | self.end(sequence)

    def end(self, sequence: TextSequence) -> dict[str, Any]:
        """Return the log-probabilities and the finish reason of a choice."""
        logprobs = None
        if self.logprobs:
            tokens = self._content_tokens(sequence)
            logprobs = {"content": [_logprob(token) for token in tokens], "refusal": None}
        return {"logprobs": logprobs, "finish_reason": sequence.finish_reason or "stop"}

    def _content_tokens(self, sequence: TextSequence) -> list[ScoredToken]:
        """Return the tokens of the content: neither the end token, nor those of a stop text."""
        tokens = [*sequence.tokens]
        content = self.content(sequence.text)
        if content == sequence.text:
            ends = sequence.finish_reason == "stop" and not self._has_stop(tokens)
            return tokens[:-1] if ends else tokens
        text = ""
        for count, token in enumerate(tokens):
            if len(text) >= len(content):
                return tokens[:count]
            text = (text + token.text).lstrip()
        return tokens

    def _has_stop(self, tokens: list[ScoredToken]) -> bool:
        text = "".join(token.text for token in tokens)
        return any(stop in text for stop in self.stop)


def _logprob(token: ScoredToken) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": [*token.text.encode()],
        "top_logprobs": [],
    }
