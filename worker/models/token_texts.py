"""Texts of single tokens, for stop texts, banned words and the scores of tokens.

Stop texts have the semantics of transformers' `stop_strings`: a text ends with the token that
completes one. Its own criterion computes a table of the whole vocabulary for each list of stop
texts, which takes a second for 50,000 tokens; here the texts of tokens are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from transformers import StopStringCriteria


class TokenTexts:
    """The texts of a tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """The text of each token in UTF-8; a token can be a part of a character."""
        criteria: Any = StopStringCriteria
        mode = criteria._get_stop_string_matching_mode(self.tokenizer)
        texts, ids = criteria.clean_tokenizer_vocab(self.tokenizer, stop_string_matching_mode=mode)
        return {
            token: text if isinstance(text, bytes) else text.encode()
            for token, text in zip(ids, texts, strict=True)
        }

    def text(self, token: int) -> str:
        """Return the text of a token, with the space before it if it begins a word."""
        return self._bytes.get(token, b"").decode(errors="replace")

    def word_ids(self, word: str) -> list[tuple[int, ...]]:
        """Return the tokens of a text, at the beginning of an answer and after a space."""
        # A user's text is never a control token.
        stripped = word.strip()
        texts = [stripped, f" {stripped}"] if stripped else []
        encoded = [
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
            for text in texts
        ]
        return list(dict.fromkeys(tuple(ids) for ids in encoded if ids))

    def stop_texts(self, texts: Sequence[str]) -> TokenStopTexts:
        """Return the texts that end an answer."""
        return TokenStopTexts([text.encode() for text in texts], self._bytes)


class TokenStopTexts:
    """Stop texts, in UTF-8, with the texts of tokens."""

    def __init__(self, stops: list[bytes], texts: dict[int, bytes]) -> None:
        self._stops, self._texts = stops, texts
        self._reach = max(map(len, stops)) - 1

    def completed_by(self, tokens: Sequence[int], before: Sequence[int] = ()) -> bool:
        """Return whether the last token completes a text, which may begin in `before`."""
        newest = self._texts.get(tokens[-1], b"") if tokens else b""
        if not newest:
            return False
        tail = b""
        for token in chain(reversed(tokens[:-1]), reversed(before)):
            # A token without a text, such as an image token, separates texts.
            if len(tail) >= self._reach or (text := self._texts.get(token)) is None:
                break
            tail = text + tail
        joined = tail + newest
        return any(
            joined.find(stop, max(0, len(tail) - len(stop) + 1)) >= 0 for stop in self._stops
        )
