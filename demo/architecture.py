"""The demo's BLIP-2: its tokenizer, its processor and its untrained weights.

All of it is of the classes, and in the token layout, of `Salesforce/blip2-opt-2.7b`,
so that code which serves that model serves this too.
"""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    GPT2Tokenizer,
)

from demo.scenes import BACKGROUNDS, COLORS, KINDS, NUMBERS

IMAGE_SIZE = 64
QUERY_TOKENS = 8
WIDTH = 128
MAX_POSITIONS = 512

#: Standard deviation of fresh weights. The vision configuration's default, 1e-10, does
#: not learn at all, and 0.02 (right for widths of 768 and more) learns slowly at 128.
INIT_STD = 0.06

# OPT's ids: <s> 0, <pad> 1, </s> 2 (which begins and ends a text), <unk> 3.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]


def phrases() -> list[str]:
    """Return every word of the world, in each position where its token may differ."""
    words = [*COLORS, *KINDS, *BACKGROUNDS, *NUMBERS.values(), "yes", "no"]
    sentences = [
        "a left of a above an on a background",
        " a an",
        "Question: how many shapes are there? Answer:",
        "Question: what color is the background? Answer:",
        "Question: what shape is it? Answer:",
        "Question: is there a circle? Answer:. Question:",
        "Question: what is on the left? Answer:",
        "Question: what is on top? Answer:",
    ]
    return [*sentences, *(f" {word}" for word in words)]


def build_tokenizer() -> GPT2Tokenizer:
    """Make a byte-level BPE: a token for each word of the world, and bytes for any other text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,  # more than there are merges, so that every word becomes one token
        min_frequency=1,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(phrases(), trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return GPT2Tokenizer(
        vocab=bpe.get_vocab(),
        merges=[tuple(pair) for pair in merges],  # type: ignore[misc]
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
        padding_side="left",
        model_max_length=MAX_POSITIONS - QUERY_TOKENS,
    )


def build_processor() -> Blip2Processor:
    """Make the processor: 64 by 64 pixels, bicubic, and the tokenizer."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    # By its name: where torchvision is installed, the automatic choice resizes differently.
    images = BlipImageProcessorPil(size=size)
    tokenizer = build_tokenizer()
    return Blip2Processor(images, tokenizer, num_query_tokens=QUERY_TOKENS)  # type: ignore[no-untyped-call]


def build_model(processor: Blip2Processor) -> Blip2ForConditionalGeneration:
    """Make an untrained model, initialised so that it learns from scratch."""
    tokenizer = processor.tokenizer
    config = Blip2Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            "initializer_range": INIT_STD,
        },
        qformer_config={
            "vocab_size": 1,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "cross_attention_frequency": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": INIT_STD,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "ffn_dim": 4 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_POSITIONS,
            "dropout": 0.0,
            "init_std": INIT_STD,
        },
        num_query_tokens=QUERY_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=INIT_STD,
    )
    model = Blip2ForConditionalGeneration(config)
    _initialise(model)
    return model


@torch.no_grad()
def _initialise(model: Blip2ForConditionalGeneration) -> None:
    """Set what the configuration cannot set (by default the query tokens are all zero)."""
    nn.init.normal_(model.query_tokens, std=1.0)
    nn.init.normal_(model.vision_model.embeddings.position_embedding, std=0.4)
    nn.init.normal_(model.language_model.model.decoder.embed_positions.weight, std=0.2)
