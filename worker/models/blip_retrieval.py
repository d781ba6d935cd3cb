"""BLIP retrieval: image-text matching (ITM) and contrastive embeddings (ITC).

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as Salesforce/blip-itm-base-coco.
Features are the vision encoder's output, so an image is encoded once for all texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import BlipForImageTextRetrieval

from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class BlipRetrieval(VisionModel):
    """A loaded checkpoint. `network` is a BlipForImageTextRetrieval in evaluation mode."""

    network_class = BlipForImageTextRetrieval
    tasks = frozenset({"match", "embed"})

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        positions = int(self.network.config.text_config.max_position_embeddings)
        self.texts = TextTokenizer(self.tokenizer, positions, self.device)

    def tokens(self, text: str) -> list[int]:
        return self.texts.tokens(text)

    @torch.inference_mode()
    def match(self, features: Tensor, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        # The network's own forward pass would encode the image again for each text.
        ids, mask = self.texts.batch(texts)
        states = self.network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=features
        ).last_hidden_state
        logits = self.network.itm_head(states[:, 0]).float()
        cosines = (self.embed_images(features) * self._embed(ids, mask)).sum(1)
        return logits.softmax(1)[:, 1], cosines

    @torch.inference_mode()
    def embed_images(self, features: Tensor) -> Tensor:
        return normalize(self.network.vision_proj(features[:, 0]).float(), dim=1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[list[int]]) -> Tensor:
        return self._embed(*self.texts.batch(texts))

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed texts: the text encoder runs without cross-attention."""
        states = self.network.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return normalize(self.network.text_proj(states[:, 0]).float(), dim=1)
