"""Checkpoints of published shapes with random weights, written shard by shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipConfig,
    BlipImageProcessorPil,
    BlipProcessor,
    GPT2Tokenizer,
    OPTConfig,
)

from demo.architecture import build_tokenizer
from worker.models.memory_shapes import skeleton

#: Maximum bytes of a shard. Those on the hub have 2 to 10 GB.
SHARD_BYTES: Final = 2 * 10**9
IMAGE_ID: Final = 50265
LARGE_WORDS: Final = 30522


def write_blip2(directory: Path) -> None:
    """Write a checkpoint of Salesforce/blip2-opt-2.7b's shape."""
    size = {"height": 224, "width": 224}
    images = BlipImageProcessorPil(size=size)
    processor: Any = Blip2Processor(images, opt_tokenizer(), num_query_tokens=32)  # type: ignore[no-untyped-call]
    processor.save_pretrained(directory)
    text = OPTConfig(
        vocab_size=50304,
        hidden_size=2560,
        num_hidden_layers=32,
        ffn_dim=10240,
        num_attention_heads=32,
        max_position_embeddings=2048,
        word_embed_proj_dim=2560,
        eos_token_id=50118,
    )
    config = Blip2Config(
        vision_config=Blip2VisionConfig().to_dict(),
        qformer_config=Blip2QFormerConfig().to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=32,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        architectures=["Blip2ForConditionalGeneration"],
    )
    write_weights(config, directory)


def write_blip_large(directory: Path) -> None:
    """Write a checkpoint of Salesforce/blip-image-captioning-large's shape."""
    images = BlipImageProcessorPil(size={"height": 384, "width": 384})
    processor: Any = BlipProcessor(images, bert_tokenizer())  # type: ignore[no-untyped-call]
    processor.save_pretrained(directory)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    config = BlipConfig(
        text_config={"encoder_hidden_size": 1024, "vocab_size": LARGE_WORDS + 2},
        vision_config={**vision, "num_attention_heads": 16, "image_size": 384, "patch_size": 16},
        architectures=["BlipForConditionalGeneration"],
    )
    write_weights(config, directory)


def opt_tokenizer() -> GPT2Tokenizer:
    """Extend the demo's tokenizer to OPT's vocabulary size, so that every id decodes to a word."""
    small = build_tokenizer()
    words: dict[str, int] = small.get_vocab()
    return GPT2Tokenizer(
        vocab={**words, **{f"Ġword{n}": n for n in range(len(words), IMAGE_ID)}},
        merges=[],
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )


def bert_tokenizer() -> BertTokenizer:
    """Build a tokenizer with BERT's special tokens and vocabulary size."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = [special.get(number, f"word{number}") for number in range(LARGE_WORDS)]
    return BertTokenizer(vocab={word: number for number, word in enumerate(words)})


def write_weights(config: Any, directory: Path) -> None:
    """Write config.json and bf16 shards with their index."""
    config.dtype = torch.bfloat16
    config.save_pretrained(directory)
    torch.manual_seed(1)
    shards = list(plan_shards(dict(skeleton(config).named_parameters())))
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: random_weight(name, shape) for name, shape in names.items()}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": directory_bytes(directory)}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def plan_shards(parameters: dict[str, Tensor]) -> Iterator[dict[str, torch.Size]]:
    """Yield the names and shapes of each shard, in order."""
    shard: dict[str, torch.Size] = {}
    remaining = SHARD_BYTES
    for name, parameter in parameters.items():
        size = parameter.numel() * torch.bfloat16.itemsize
        if shard and size > remaining:
            yield shard
            shard, remaining = {}, SHARD_BYTES
        shard[name] = parameter.shape
        remaining -= size
    yield shard


def random_weight(name: str, shape: torch.Size) -> Tensor:
    """Draw a weight so that states keep a normal scale: matrices by width, norms 1, biases 0."""
    empty = torch.empty(shape, dtype=torch.bfloat16)
    if len(shape) > 1:
        return empty.normal_(std=float(shape[1:].numel()) ** -0.5)
    return empty.fill_(0.0 if name.endswith("bias") else 1.0)


def directory_bytes(directory: Path) -> int:
    """Return the bytes of the weights."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))
