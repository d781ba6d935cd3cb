"""BLIP that compares images and texts: ITM (does this text belong?) and ITC (embeddings).

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as Salesforce/blip-itm-base-coco.
Features are the vision encoder's output, so an image is encoded once for all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BlipForImageTextRetrieval

from worker.models.checkpoint import fingerprint, read_weights, unreadable
from worker.models.pixels import Pixels, read_processor
from worker.models.texts import Texts
from worker.models.vision import VisionTower


def open_checkpoint(model: str, config: Any, precision: str, device: torch.device) -> BlipRetrieval:
    """Load a directory or hub name whose configuration was read already. Raises LoadError."""
    processor = read_processor(model, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error
    network = read_weights(BlipForImageTextRetrieval, model, precision, device)
    return BlipRetrieval(
        network,
        tokenizer,
        processor,
        name=model,
        revision=fingerprint(network, tokenizer),
        precision=precision,
    )


class BlipRetrieval:
    """A loaded checkpoint. `network` is a BlipForImageTextRetrieval in evaluation mode."""

    tasks = frozenset({"match", "embed"})

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        processor: Any,
        *,
        name: str,
        revision: str,
        precision: str,
    ) -> None:
        self.name, self.revision, self.precision = name, revision, precision
        self.network = network
        self.device: torch.device = network.device
        self.pixels = Pixels(processor, int(network.config.vision_config.image_size), self.device)
        self.tower = VisionTower(network.vision_model)
        self.image_size, self.resample = self.pixels.image_size, self.pixels.resample
        positions = int(network.config.text_config.max_position_embeddings)
        self.texts = Texts(tokenizer, positions, self.device)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """The vision encoder's output: (n, 1 + patches, hidden)."""
        return self.tower(self.pixels(pixels))

    def tokens(self, text: str) -> list[int]:
        return self.texts.tokens(text)

    @torch.inference_mode()
    def match(self, features: Tensor, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        # Not the network's own forward: it encodes the image again for each text.
        ids, mask = self.texts.batch(texts)
        read = self.network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=features
        ).last_hidden_state
        verdicts = self.network.itm_head(read[:, 0]).float()
        cosines = (self.embed_images(features) * self._embed(ids, mask)).sum(1)
        return verdicts.softmax(1)[:, 1], cosines

    @torch.inference_mode()
    def embed_images(self, features: Tensor) -> Tensor:
        return normalize(self.network.vision_proj(features[:, 0]).float(), dim=1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[list[int]]) -> Tensor:
        return self._embed(*self.texts.batch(texts))

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Read without an image: the encoder's cross-attention stays out."""
        read = self.network.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return normalize(self.network.text_proj(read[:, 0]).float(), dim=1)
