"""Random InstructBLIP checkpoints with Vicuna, which is a LLaMA."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from tests.models.t5_checkpoints import (
    IMAGE_SIZE,
    QUERIES,
    build_question_tokenizer,
    qformer_config,
    randomise,
    vision_config,
)
from tests.opt_checkpoint import build_tokenizer


def save_instructblip_llama(path: Path) -> None:
    """Save a model whose heads of keys and values are fewer than those of queries."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    tokenizer, questions = build_tokenizer(), build_question_tokenizer()
    processor = InstructBlipProcessor(
        BlipImageProcessorPil(size=size), tokenizer, questions, num_query_tokens=QUERIES
    )
    processor.save_pretrained(path)
    config = InstructBlipConfig(
        vision_config=vision_config(),
        qformer_config=qformer_config(len(questions)),
        text_config={
            "model_type": "llama",
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 160,
            "bos_token_id": 2,
            # Many end tokens, so that an untrained model ends its texts at many lengths.
            "eos_token_id": [2, *range(100, 112)],
        },
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(7)
    network = InstructBlipForConditionalGeneration(config)
    randomise(network)
    network.eval().save_pretrained(path)
