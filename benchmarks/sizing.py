"""`python -m benchmarks.sizing`: GPU memory of published shapes, as `python -m worker info` has it.

Writes the configuration of each, without weights, and prints a Markdown table: the weights in each
precision, the bytes of a row, and the rows that fit a GPU.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from transformers import (
    Blip2Config,
    BlipConfig,
    InstructBlipConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    T5Config,
)
from transformers.utils import logging

from worker.hub.reference import Snapshot
from worker.info import describe, memory_size

PRECISIONS: Final = ("fp32", "bf16", "fp16", "int8", "int4")
DEVICES: Final = ("8GB", "16GB", "24GB", "80GB")


def blip(**vision: int) -> BlipConfig:
    """Return the configuration of a BLIP captioner with 384 pixels."""
    text = {"vocab_size": 30_524, "encoder_hidden_size": vision.get("hidden_size", 768)}
    vision_config = {"image_size": 384, "patch_size": 16, **vision}
    return BlipConfig(
        text_config=text,
        vision_config=vision_config,
        architectures=["BlipForConditionalGeneration"],
    )


def opt(width: int) -> OPTConfig:
    """Return the configuration of an OPT with 32 layers."""
    return OPTConfig(
        vocab_size=50_304,
        hidden_size=width,
        word_embed_proj_dim=width,
        ffn_dim=4 * width,
        num_hidden_layers=32,
        num_attention_heads=32,
    )


def t5(width: int, inner: int, heads: int) -> T5Config:
    """Return the configuration of a Flan-T5 with 24 layers and a head of its own."""
    return T5Config(
        vocab_size=32_128,
        d_model=width,
        d_kv=64,
        d_ff=inner,
        num_heads=heads,
        num_layers=24,
        num_decoder_layers=24,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,  # type: ignore[call-arg]
    )


def llama(width: int, inner: int, layers: int, heads: int) -> LlamaConfig:
    """Return the configuration of a Vicuna."""
    return LlamaConfig(
        vocab_size=32_001,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )


def combined(kind: type[Blip2Config | InstructBlipConfig], text: PretrainedConfig) -> Any:
    """Return the configuration of a language model behind the large vision encoder."""
    name = kind.__name__.removesuffix("Config")
    return kind(
        text_config=text.to_dict(),
        num_query_tokens=32,
        image_token_index=3,
        architectures=[f"{name}ForConditionalGeneration"],
    )


def published() -> dict[str, Any]:
    """Return the configurations of the published shapes by their names on the hub."""
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    xl, xxl = t5(2048, 5120, 32), t5(4096, 10_240, 64)
    return {
        "blip-image-captioning-base": blip(),
        "blip-image-captioning-large": blip(**large, num_attention_heads=16),
        "blip2-opt-2.7b": combined(Blip2Config, opt(2560)),
        "blip2-opt-6.7b": combined(Blip2Config, opt(4096)),
        "blip2-flan-t5-xl": combined(Blip2Config, xl),
        "blip2-flan-t5-xxl": combined(Blip2Config, xxl),
        "instructblip-flan-t5-xl": combined(InstructBlipConfig, xl),
        "instructblip-vicuna-7b": combined(InstructBlipConfig, llama(4096, 11_008, 32, 32)),
        "instructblip-vicuna-13b": combined(InstructBlipConfig, llama(5120, 13_824, 40, 40)),
    }


def main() -> int:
    """Print the table; return the exit code."""
    ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__).parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    rows = ", ".join(DEVICES)
    print(f"| model | parameters | {' | '.join(PRECISIONS)} | a row, fp16 | rows in fp16: {rows} |")
    print("|---|---|" + "---|" * (len(PRECISIONS) + 2))
    for name, config in published().items():
        with tempfile.TemporaryDirectory() as directory:
            config.save_pretrained(directory)
            print(line(name, Path(directory)), flush=True)
    return 0


def line(name: str, directory: Path) -> str:
    """Return the line of a model."""
    devices = [describe(Snapshot(name, directory), "cuda", memory_size(d)) for d in DEVICES]
    by_precision = {row["precision"]: row for row in devices[0]["precisions"]}
    sizes = [f"{weights(by_precision[precision]) / 1e9:.1f} GB" for precision in PRECISIONS]
    fitting = ", ".join(rows_in_half(facts) for facts in devices)
    row = f"{by_precision['fp16']['row_bytes'] / 1e6:.0f} MB"
    cells = [f"`{name}`", f"{devices[0]['parameters'] / 1e9:.1f} B", *sizes, row, fitting]
    return f"| {' | '.join(cells)} |"


def weights(row: dict[str, Any]) -> int:
    """Return the bytes of the weights in a precision."""
    return int(row["weight_bytes"] + row["copy_bytes"])


def rows_in_half(facts: dict[str, Any]) -> str:
    """Return the rows that fit beside the weights in fp16."""
    row = facts["precisions"][PRECISIONS.index("fp16")]
    return f"{row['rows']:,}" if row["fits"] else "-"


if __name__ == "__main__":
    sys.exit(main())
