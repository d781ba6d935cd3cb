"""Tokenization of users' texts for a BERT-like encoder, and padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from worker.engine.errors import PromptTooLong


class TextTokenizer:
    """The tokenizer of an encoder that reads `positions` tokens; batches lie on `device`."""

    def __init__(self, tokenizer: Any, positions: int, device: torch.device) -> None:
        self.tokenizer, self.positions, self.device = tokenizer, positions, device
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def tokens(self, text: str) -> list[int]:
        """Return `[CLS] text [SEP]`. Raises PromptTooLong; ValueError for invalid Unicode."""
        text.encode()  # for a lone surrogate the tokenizer would raise a TypeError
        # A user's text is never a control token, even if it reads '[SEP]'.
        ids: list[int] = self.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
        if len(ids) > self.positions:
            raise PromptTooLong(
                f"The text has {len(ids)} tokens; the model's limit is {self.positions}."
            )
        return ids

    def batch(self, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask (n, longest), padded on the right.

        Positions count from the first column, so padding on the left would shift the text.
        """
        width = max(map(len, texts))
        ids = torch.tensor([text + [self.pad_id] * (width - len(text)) for text in texts])
        lengths = torch.tensor([len(text) for text in texts])
        mask = torch.arange(width) < lengths[:, None]
        return ids.to(self.device), mask.long().to(self.device)
