"""The demo's retrieval model: its tokenizer, its processor and its weights before training.

All of it is of the classes, and in the token layout, of `Salesforce/blip-itm-base-coco`,
so that code which serves that model serves this too.
"""

from __future__ import annotations

import string
from pathlib import Path

import torch
from torch import nn
from transformers import (
    BertTokenizer,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipProcessor,
)

from demo.architecture import IMAGE_SIZE, INIT_STD, WIDTH
from demo.scenes import BACKGROUNDS, COLORS, KINDS, NUMBERS

#: Width of the vectors that a store of embeddings would keep.
EMBEDDING_WIDTH = 64
MAX_POSITIONS = 256
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

#: The captioner, whose vision encoder already distinguishes colors, shapes and positions.
CAPTIONER = Path(__file__).with_name("model")


def vocabulary() -> list[str]:
    """Return the words of the world, and the characters of any other word."""
    words = [*COLORS, *KINDS, *BACKGROUNDS, *NUMBERS.values()]
    words += ["a", "an", "left", "right", "of", "above", "below", "on", "background", "is", "there"]
    words += ["shape", "picture", "with", "and"]
    letters = [*string.ascii_lowercase, *string.digits]
    characters = [*letters, *string.punctuation, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *words, *characters]))


def build_tokenizer() -> BertTokenizer:
    """Make a WordPiece: a token for each word of the world, characters for any other word."""
    ids = {token: number for number, token in enumerate(vocabulary())}
    return BertTokenizer(ids, do_lower_case=True, model_max_length=MAX_POSITIONS)


def build_processor() -> BlipProcessor:
    """Make the processor: 64 by 64 pixels, bicubic, and the tokenizer."""
    # By its name: where torchvision is installed, the automatic choice resizes differently.
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return BlipProcessor(images, build_tokenizer())  # type: ignore[no-untyped-call]


def build_model(processor: BlipProcessor) -> BlipForImageTextRetrieval:
    """Make a model with the captioner's vision encoder and an untrained text encoder."""
    captioner = Blip2ForConditionalGeneration.from_pretrained(CAPTIONER, dtype=torch.float32)
    vision = captioner.vision_model.config
    tokenizer = processor.tokenizer
    config = BlipConfig(
        vision_config={
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layer_norm_eps": vision.layer_norm_eps,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            # A layer each for the names, for the relation of two shapes, and for the verdict.
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": INIT_STD,
            "bos_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_text_hidden_size=EMBEDDING_WIDTH,
        initializer_range=INIT_STD,
    )
    model = BlipForImageTextRetrieval(config)
    model.vision_model.load_state_dict(captioner.vision_model.state_dict())
    _initialise(model)
    return model


@torch.no_grad()
def _initialise(model: BlipForImageTextRetrieval) -> None:
    """Let words, and their positions, differ from the first step on."""
    words = model.text_encoder.embeddings
    nn.init.normal_(words.word_embeddings.weight, std=0.5)
    words.word_embeddings.weight[words.word_embeddings.padding_idx] = 0.0
    nn.init.normal_(words.position_embeddings.weight, std=0.2)
