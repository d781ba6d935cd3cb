"""A BLIP-2 checkpoint with random weights: ViT-B, a Q-Former of 6 layers, OPT-125m's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from benchmarks.real_checkpoint import opt_tokenizer

IMAGE_SIZE, PATCH, QUERIES = 224, 16, 32
WIDTH: dict[str, Any] = {"hidden_size": 768, "num_attention_heads": 12}
#: Rows of OPT's embedding.
VOCABULARY = 50272


def write(directory: Path) -> None:
    """Write model and processor, as `save_pretrained` does."""
    tokenizer = opt_tokenizer()
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor: Any = Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)  # type: ignore[no-untyped-call]
    processor.save_pretrained(directory)
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    random_network(image_id).save_pretrained(directory)


def random_network(image_id: int) -> Any:
    """Build a random network whose states keep a normal scale: rows differ beyond rounding."""
    torch.manual_seed(3)
    network: Any = Blip2ForConditionalGeneration(configuration(image_id))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
        network.query_tokens.normal_()
    return network


def configuration(image_id: int) -> Blip2Config:
    """Build the configuration."""
    vision = {"intermediate_size": 3072, "num_hidden_layers": 12, "image_size": IMAGE_SIZE}
    qformer = {"intermediate_size": 3072, "num_hidden_layers": 6, "encoder_hidden_size": 768}
    text = {"ffn_dim": 3072, "num_hidden_layers": 12, "word_embed_proj_dim": 768}
    return Blip2Config(
        vision_config={**WIDTH, **vision, "patch_size": PATCH},
        qformer_config={**WIDTH, **qformer, "cross_attention_frequency": 2, "vocab_size": 1},
        text_config={**WIDTH, **text, "model_type": "opt", "vocab_size": VOCABULARY},
        num_query_tokens=QUERIES,
        image_token_index=image_id,
    )
