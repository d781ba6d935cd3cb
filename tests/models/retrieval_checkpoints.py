"""Random BLIP and BLIP-2 retrieval checkpoints."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipProcessor,
)

IMAGE_SIZE = 16
POSITIONS = 64
QUERIES = 4
TEXTS = [
    "a red circle",
    "a blue square on a grey background",
    "a red circle left of a blue square on a pink background",
    "star",
    "a zebra crossing",
    "two, or is it three?",
    "",
    "A RED circle",
    "circle red a",
    "a red red red red red red red red circle",
]
WORDS = sorted({word for text in TEXTS[:3] for word in text.split()})
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOWER = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
}
VISION = {**TOWER, "image_size": IMAGE_SIZE, "patch_size": 8}


def build_tokenizer() -> BertTokenizer:
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = dict.fromkeys([*SPECIAL, *WORDS, *letters, *string.punctuation])
    return BertTokenizer({token: number for number, token in enumerate(vocabulary)})


def randomise(network: Any) -> Any:
    """Weights far from zero: rows must differ, and by more than rounding."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.0 if "query_tokens" in name else 0.3)
            elif "bias" in name:
                weight.normal_(std=0.1)
    return network.eval()


def save_blip(path: Path) -> None:
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = BlipProcessor(images, build_tokenizer())
    text = {
        **TOWER,
        "vocab_size": len(processor.tokenizer),
        "max_position_embeddings": POSITIONS,
        "bos_token_id": processor.tokenizer.cls_token_id,
        "sep_token_id": processor.tokenizer.sep_token_id,
    }
    config = BlipConfig(vision_config=VISION, text_config=text, image_text_hidden_size=20)
    torch.manual_seed(3)
    randomise(BlipForImageTextRetrieval(config)).save_pretrained(path)
    processor.save_pretrained(path)


def save_blip2(path: Path) -> None:
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = Blip2Processor(images, build_tokenizer(), num_query_tokens=QUERIES)
    qformer = {
        **TOWER,
        "hidden_size": 24,
        "encoder_hidden_size": 32,
        "vocab_size": len(processor.tokenizer),
        "max_position_embeddings": POSITIONS,
        "use_qformer_text_input": True,
        "cross_attention_frequency": 2,
    }
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=qformer,
        num_query_tokens=QUERIES,
        image_text_hidden_size=20,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(3)
    randomise(Blip2ForImageTextRetrieval(config)).save_pretrained(path)
    processor.save_pretrained(path)
