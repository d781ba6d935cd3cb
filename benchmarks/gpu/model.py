"""A BLIP-2 with random weights, built on the device itself, for `benchmarks.gpu`.

Writing and reading a checkpoint of 7.5 GB would take longer than the measurement.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipImageProcessorPil

from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot
from worker.models.blip2 import Blip2
from worker.models.int8 import Int8Linear, quantize
from worker.models.memory_shapes import skeleton
from worker.models.precision import Plan, check_available, make_plan
from worker.models.vision_model import Checkpoint

#: Salesforce/blip2-opt-2.7b; all other values are transformers' defaults.
REAL: Final[dict[str, Any]] = {
    "vision_config": {
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
    },
    "qformer_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "cross_attention_frequency": 2,
        "encoder_hidden_size": 1408,
    },
    "text_config": {
        "model_type": "opt",
        "vocab_size": 50304,
        "hidden_size": 2560,
        "word_embed_proj_dim": 2560,
        "ffn_dim": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
    "num_query_tokens": 32,
    "image_token_index": 50265,
}
_SMALL: Final = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
TINY: Final[dict[str, Any]] = {
    "vision_config": {**_SMALL, "intermediate_size": 128, "image_size": 28, "patch_size": 14},
    "qformer_config": {**_SMALL, "intermediate_size": 128, "encoder_hidden_size": 64},
    "text_config": {
        **_SMALL,
        "model_type": "opt",
        "vocab_size": 512,
        "word_embed_proj_dim": 64,
        "ffn_dim": 128,
        "max_position_embeddings": 128,
    },
    "num_query_tokens": 8,
    "image_token_index": 511,
}
SHAPES: Final = {"blip2-opt-2.7b": REAL, "tiny": TINY}
#: OPT's token that begins and ends a text.
END: Final = 2
#: Squares of an image in one direction.
SQUARES: Final = 7


class NumberTokenizer:
    """A tokenizer stub that decodes a token to its number, so equal texts are equal tokens."""

    def __call__(self, text: str, **options: Any) -> SimpleNamespace:
        """Tokenize a text as its bytes."""
        return SimpleNamespace(input_ids=[END, *text.encode()])

    def decode(self, ids: list[int], **options: Any) -> str:
        """Decode tokens, without the special token."""
        return " ".join(str(token) for token in ids if token != END)


def build(shape: str, precision: str, device: torch.device) -> Blip2:
    """Build a model as the worker would load it. Raises LoadError."""
    config: Any = Blip2Config(**SHAPES[shape])
    side = config.vision_config.image_size
    empty = skeleton(config, Blip2ForConditionalGeneration)
    check_available(precision, empty)
    plan = make_plan(empty, precision, device)
    network = on_device(config, plan.dtype, device)
    randomize(network)
    for name, parameter in network.named_parameters():
        if name in plan.fp32:
            parameter.data = parameter.data.float()
    if precision == "int8":
        quantize_network(network, plan)
    elif plan.quantized:
        raise LoadError(f"This benchmark does not measure precision {precision}.")
    network = network.eval().requires_grad_(False)
    processor = BlipImageProcessorPil(size=dict.fromkeys(("height", "width"), side))
    snapshot = Snapshot(shape, Path())
    return Blip2(Checkpoint(snapshot, "random", precision, network, NumberTokenizer(), processor))


def on_device(config: Blip2Config, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the network with uninitialised parameters on a device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Blip2ForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def randomize(network: Any, seed: int = 3) -> None:
    """Draw weights that keep states at a normal scale, so that rows differ beyond rounding."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
            continue
        for weight in module.parameters(recurse=False):
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
            else:
                weight.zero_()
    network.query_tokens.normal_()


def quantize_network(network: Any, plan: Plan) -> None:
    """Quantize as `from_pretrained` with bitsandbytes and then `separate_rows` do."""
    import bitsandbytes  # noqa: F401  # registers the operator that Int8Linear calls

    for name in plan.quantized:
        linear = network.get_submodule(name)
        codes, scales = quantize(linear.weight.data)
        network.set_submodule(name, Int8Linear(codes, scales, linear.bias))


def pictures(count: int, size: int) -> Tensor:
    """Draw distinct images of coloured squares: uint8 (count, size, size, 3)."""
    random = np.random.default_rng(5)
    squares = random.integers(0, 256, (count, SQUARES, SQUARES, 3), dtype=np.uint8)
    side = -(-size // SQUARES)
    drawn = squares.repeat(side, axis=1).repeat(side, axis=2)[:, :size, :size]
    return torch.from_numpy(np.ascontiguousarray(drawn))
