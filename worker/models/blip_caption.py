"""BLIP captioning: a text decoder with cross-attention to the image continues a prompt.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as
Salesforce/blip-image-captioning-base and -large.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import BlipForConditionalGeneration

from worker.engine.model import Prompt
from worker.engine.request import Request
from worker.models.blip_text import BlipTextDecoder
from worker.models.generation import decode_text
from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class BlipCaption(VisionModel):
    """A loaded checkpoint. `network` is a BlipForConditionalGeneration in evaluation mode."""

    network_class = BlipForConditionalGeneration
    tasks = frozenset({"caption"})

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        image_tokens = int(self.network.vision_model.embeddings.num_positions)
        # Every row has an image, so its positions are never released.
        self.decoder = BlipTextDecoder(self.network.text_decoder, image_tokens, image_tokens)
        self.prompts = TextTokenizer(self.tokenizer, self.decoder.max_length, self.device)

    def prompt(self, request: Request) -> Prompt:
        # As in BLIP's own `generate`: its begin-of-text token replaces [CLS], and [SEP] is dropped.
        return Prompt([self.decoder.bos_id, *self.prompts.tokens(request.text)[1:-1]])

    def condition(self, features: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return features

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        # A caption begins with its prompt. BLIP's begin-of-text token is outside BERT's vocabulary
        # and decodes to nothing.
        return decode_text(self.tokenizer, prompt.start + new)
