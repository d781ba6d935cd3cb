"""The baseline of `benchmarks.engine`: static batches through transformers' own `generate`.

A batch runs to the length of its longest row, and every row is cut at its own length. This is the
cost of static batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, Blip2ForConditionalGeneration


class Static:
    """A BLIP-2 checkpoint with OPT, in fp32 on the CPU."""

    def __init__(self, directory: str) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(directory)  # type: ignore[no-untyped-call]
        self.network: Any = Blip2ForConditionalGeneration.from_pretrained(directory)

    def pixels(self, images: Tensor) -> Tensor:
        """Normalise images uint8 (n, size, size, 3) to (n, 3, size, size)."""
        batch = self.processor.image_processor(
            list(images.numpy()), do_resize=False, return_tensors="pt"
        )
        pixels: Tensor = batch.pixel_values
        return pixels

    def features(self, pixels: Tensor) -> Tensor:
        """Return the images' features for the language model: (n, queries, hidden)."""
        with torch.inference_mode():
            output = self.network.get_image_features(pixels, return_dict=True)
        features: Tensor = output.pooler_output
        return features

    def captions(self, pixels: Tensor, lengths: Sequence[int], size: int) -> list[str]:
        """Encode images and return captions of exactly `lengths` tokens."""
        return self._in_batches(lambda part: {"pixel_values": pixels[part]}, lengths, size)

    def captions_of(self, features: Tensor, lengths: Sequence[int], size: int) -> list[str]:
        """Return captions of exactly `lengths` tokens for encoded images."""
        begin = self.network.config.text_config.bos_token_id
        image = [self.network.config.image_token_index] * features.shape[1]
        word = self.network.get_input_embeddings()(torch.tensor([[begin]]))

        def inputs(part: slice) -> dict[str, Tensor]:
            rows = features[part]
            ids = torch.tensor([[*image, begin]]).expand(len(rows), -1)
            embedded = torch.cat([rows, word.expand(len(rows), -1, -1)], dim=1)
            return {"input_ids": ids, "inputs_embeds": embedded, "attention_mask": ids * 0 + 1}

        return self._in_batches(inputs, lengths, size, self.network.language_model)

    def answers(
        self, pixels: Tensor, questions: Sequence[str], length: int, size: int
    ) -> list[str]:
        """Return answers of `length` tokens to questions about an image, encoded for each row."""
        prompts = [f"Question: {question} Answer:" for question in questions]
        self.processor.tokenizer.padding_side = "left"
        texts: list[str] = []
        for first in range(0, len(prompts), size):
            batch = self.processor(
                text=prompts[first : first + size], padding=True, return_tensors="pt"
            )
            queries, ids = self.processor.num_query_tokens, batch.input_ids
            # Image tokens precede the text and its padding.
            image = torch.full((len(ids), queries), self.network.config.image_token_index)
            texts += self._generate(
                [length] * len(ids),
                pixel_values=pixels.expand(len(ids), -1, -1, -1),
                input_ids=torch.cat([image, ids], dim=1),
                attention_mask=torch.cat([image * 0 + 1, batch.attention_mask], dim=1),
            )
        return texts

    def _in_batches(
        self,
        inputs: Callable[[slice], dict[str, Tensor]],
        lengths: Sequence[int],
        size: int,
        network: Any = None,
    ) -> list[str]:
        texts: list[str] = []
        for first in range(0, len(lengths), size):
            part = slice(first, first + size)
            texts += self._generate(lengths[part], network, **inputs(part))
        return texts

    def _generate(self, lengths: Sequence[int], network: Any = None, **inputs: Tensor) -> list[str]:
        longest = max(lengths)
        with torch.inference_mode():
            rows = (network or self.network).generate(
                **inputs, min_new_tokens=longest, max_new_tokens=longest, do_sample=False
            )
        new = rows[:, -longest:].tolist()
        cut = [row[:length] for row, length in zip(new, lengths, strict=True)]
        return [text.strip() for text in self.processor.batch_decode(cut, skip_special_tokens=True)]
