"""BLIP-2 retrieval: image-text matching (ITM) and contrastive embeddings (ITC).

Li et al. 2023, https://arxiv.org/abs/2301.12597; checkpoints such as Salesforce/blip2-itm-vit-g.
For ITM the queries read image and text together; for ITC they read only the image. Features contain
both inputs: the vision encoder's output, then the queries' embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from transformers import Blip2ForImageTextRetrieval

from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class Blip2Retrieval(VisionModel):
    """A loaded checkpoint. `network` is a Blip2ForImageTextRetrieval in evaluation mode.

    An image has several embeddings, one for each query; the cosine of `match` is that of the query
    nearest to the text, as in training. A vector store has one vector per image:
    `embed_images` returns the normalised mean of the queries' embeddings. Its cosine with a text
    only approximates that of `match`, and may rank images differently.
    """

    network_class = Blip2ForImageTextRetrieval
    tasks = frozenset({"match", "embed"})

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.network.config
        # In fp16, only the Q-Former stays in fp32: its output is cast for the heads.
        self.dtype: torch.dtype = self.network.embeddings.word_embeddings.weight.dtype
        self.queries = int(config.num_query_tokens)
        self.dim = int(config.image_text_hidden_size)
        positions = int(config.qformer_config.max_position_embeddings)
        self.texts = TextTokenizer(self.tokenizer, positions, self.device)

    @classmethod
    def embeddings(cls, config: Any) -> int:
        return int(config.qformer_config.vocab_size)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return the vision encoder's output and, as rows of its width, the queries' embeddings.

        The Q-Former therefore reads the image without a text only once, not once per text.
        """
        states = self.tower(self.normalize(pixels))
        queries = self.network.qformer(
            query_embeds=self._query_tokens(len(states)), encoder_hidden_states=states
        ).last_hidden_state
        flat = self._project(self.network.vision_projection, queries).flatten(1)
        width = states.shape[2]
        rows = pad(flat, (0, -flat.shape[1] % width)).view(len(states), -1, width)
        return torch.cat([states, rows.to(states.dtype)], dim=1)

    def tokens(self, text: str) -> list[int]:
        return self.texts.tokens(text)

    @torch.inference_mode()
    def match(self, features: Tensor, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        # The network's own forward pass would encode the image again for each text.
        ids, mask = self.texts.batch(texts)
        image_states, queries = self._unpack(features)
        states = self.network.qformer(
            query_embeds=self.network.embeddings(ids, query_embeds=self._query_tokens(len(ids))),
            query_length=self.queries,
            attention_mask=torch.cat([mask.new_ones(len(mask), self.queries), mask], dim=1),
            encoder_hidden_states=image_states,
        ).last_hidden_state[:, : self.queries]
        logits = self.network.itm_head(states.to(self.dtype)).float().mean(dim=1)
        cosines = (queries * self._embed(ids, mask)[:, None]).sum(2).amax(1)
        return logits.softmax(1)[:, 1], cosines

    @torch.inference_mode()
    def embed_images(self, features: Tensor) -> Tensor:
        """Return the normalised mean of the queries' embeddings (see the class)."""
        return normalize(self._unpack(features)[1].mean(dim=1), dim=1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[list[int]]) -> Tensor:
        return self._embed(*self.texts.batch(texts))

    def _unpack(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Split features into image states and unit vectors of the queries (n, queries, dim)."""
        size = self.queries * self.dim
        rows = -(-size // features.shape[2])
        flat = features[:, -rows:].flatten(1)[:, :size].float()
        # Rounding to 16 bits has changed their length slightly.
        vectors = normalize(flat.view(-1, self.queries, self.dim), dim=2)
        return features[:, :-rows], vectors

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed texts: the Q-Former runs without image and queries."""
        states = self.network.qformer(
            query_embeds=self.network.embeddings(ids), query_length=0, attention_mask=mask
        ).last_hidden_state
        return self._project(self.network.text_projection, states[:, 0])

    def _query_tokens(self, count: int) -> Tensor:
        tokens: Tensor = self.network.query_tokens.expand(count, -1, -1)
        return tokens

    def _project(self, projection: Any, states: Tensor) -> Tensor:
        return normalize(projection(states.to(self.dtype)).float(), dim=-1)
