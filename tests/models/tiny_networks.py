"""One tiny network of each family: its class and its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)

# Sizes that every precision supports: int4 needs multiples of 64.
SIZES = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
WIDE = {**SIZES, "intermediate_size": 128}
VISION = {**WIDE, "image_size": 16, "patch_size": 8}
QFORMER = {**WIDE, "vocab_size": 40, "encoder_hidden_size": 64, "use_qformer_text_input": True}
OPT = {
    **SIZES,
    "model_type": "opt",
    "vocab_size": 96,
    "ffn_dim": 128,
    "word_embed_proj_dim": 64,
    "max_position_embeddings": 128,
}
T5 = {
    "model_type": "t5",
    "vocab_size": 96,
    "d_model": 64,
    "d_kv": 32,
    "d_ff": 128,
    "num_heads": 2,
    "num_layers": 2,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
BERT = {**WIDE, "vocab_size": 96, "encoder_hidden_size": 64, "max_position_embeddings": 64}


def blip2(text: dict[str, Any]) -> Any:
    # The Q-Former of a captioner reads no text.
    qformer = {**QFORMER, "use_qformer_text_input": False}
    return Blip2Config(
        vision_config=VISION,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=4,
        image_token_index=95,
    )


def blip() -> Any:
    return BlipConfig(text_config=BERT, vision_config=VISION)


#: Class and configuration of a tiny network of each family.
FAMILIES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "blip2-opt": (Blip2ForConditionalGeneration, lambda: blip2(OPT)),
    "blip2-t5": (Blip2ForConditionalGeneration, lambda: blip2(T5)),
    "instructblip": (
        InstructBlipForConditionalGeneration,
        lambda: InstructBlipConfig(
            vision_config=VISION,
            qformer_config=QFORMER,
            text_config=T5,
            num_query_tokens=4,
            image_token_index=95,
        ),
    ),
    "blip-caption": (BlipForConditionalGeneration, blip),
    "blip-vqa": (BlipForQuestionAnswering, blip),
    "blip-retrieval": (BlipForImageTextRetrieval, blip),
    "blip2-retrieval": (
        Blip2ForImageTextRetrieval,
        lambda: Blip2Config(
            vision_config=VISION, qformer_config=QFORMER, text_config=OPT, num_query_tokens=4
        ),
    ),
}
