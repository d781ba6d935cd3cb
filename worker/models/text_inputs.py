"""What a text encoder reads: tokens of a user's text, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from worker.engine.errors import PromptTooLong


class TextTokenizer:
    """The tokenizer of a BERT-like encoder with `positions` places, batches on `device`."""

    def __init__(self, tokenizer: Any, positions: int, device: torch.device) -> None:
        self.tokenizer, self.positions, self.device = tokenizer, positions, device
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def tokens(self, text: str) -> list[int]:
        """`[CLS] words [SEP]`. Raises PromptTooLong, ValueError where it is no Unicode."""
        text.encode()  # half a surrogate pair: the tokenizer would raise a TypeError
        # What a user writes is text, also where it looks like '[SEP]'.
        ids: list[int] = self.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
        if len(ids) > self.positions:
            raise PromptTooLong(
                f"The text has {len(ids)} tokens, more than the {self.positions} that the model"
                " reads."
            )
        return ids

    def batch(self, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and attention mask (n, longest), padded on the right.

        Positions count from the first column, so padding on the left would shift the words.
        """
        width = max(map(len, texts))
        ids = torch.tensor([text + [self.pad_id] * (width - len(text)) for text in texts])
        lengths = torch.tensor([len(text) for text in texts])
        mask = torch.arange(width) < lengths[:, None]
        return ids.to(self.device), mask.long().to(self.device)
