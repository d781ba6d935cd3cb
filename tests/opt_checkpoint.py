"""A random BLIP-2 with OPT, small enough to decode thousands of tokens in a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    GPT2Tokenizer,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from worker.engine.model import Generator, as_generator
from worker.models.registry import load

IMAGE_SIZE = 16
QUERIES = 4
SENTENCES = [
    "Question: how many shapes are there? Answer: two",
    "Question: what color is the circle on the left? Answer: red",
    "a photo of a red circle above a blue square",
]


def build_tokenizer() -> GPT2Tokenizer:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    pairs: Any = [tuple(pair) for pair in merges]
    return GPT2Tokenizer(
        vocab=bpe.get_vocab(),
        merges=pairs,
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )


def build_network(tokenizer: GPT2Tokenizer) -> Blip2ForConditionalGeneration:
    width = {"hidden_size": 32, "num_attention_heads": 2}
    image_token: Any = tokenizer.convert_tokens_to_ids("<image>")
    config = Blip2Config(
        vision_config={
            **width,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
        },
        qformer_config={
            **width,
            "vocab_size": 1,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "cross_attention_frequency": 1,
        },
        text_config={
            **width,
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "max_position_embeddings": 128,
            # Many end tokens, so that an untrained model ends its texts at many lengths.
            "eos_token_id": [2, *range(100, 112)],
        },
        num_query_tokens=QUERIES,
        image_token_index=image_token,
    )
    torch.manual_seed(3)
    network = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:  # large weights, so that rows differ by more than rounding
                weight.normal_(std=1.0 if "query_tokens" in name else 0.4)
    network.eval()
    return network


def save_opt(path: Path) -> None:
    """A Blip2ForConditionalGeneration with its processor, as `save_pretrained` writes them."""
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = Blip2Processor(images, build_tokenizer(), num_query_tokens=QUERIES)
    processor.save_pretrained(path)
    build_network(processor.tokenizer).save_pretrained(path)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: with small matrices a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from formatting each configuration for lines that nobody reads.

    It formats them for its log and for the errors of types that it tries, 15 % of a tiny load.
    Progress bars would be part of the output of the first test that saves a checkpoint.
    """
    transformers_logging.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedConfig, "__repr__", object.__repr__)
        yield


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory, as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("checkpoint")
    save_opt(path)
    return path


@pytest.fixture(scope="package")
def model(checkpoint: Path) -> Generator:
    loaded = as_generator(load(str(checkpoint), precision="fp32", device="cpu"))
    assert loaded is not None
    return loaded
