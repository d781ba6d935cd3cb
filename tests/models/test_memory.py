"""Estimates of memory from a configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipConfig,
    OPTConfig,
    T5Config,
)

from config.settings import DEMO_MODEL
from tests.models.checkpoints import CHECKPOINTS, SaveOnce
from worker.engine.errors import LoadError
from worker.engine.model import as_generator
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_config, read_weights
from worker.models.memory import IMAGES, estimate
from worker.models.registry import load

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GB = 10**9


def real_config() -> Any:
    """Salesforce/blip2-opt-2.7b, whose vision encoder and Q-Former are the defaults."""
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
    return blip2_config(text)


def blip2_config(text: Any) -> Any:
    return Blip2Config(
        vision_config=Blip2VisionConfig().to_dict(),
        qformer_config=Blip2QFormerConfig().to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=32,
        architectures=["Blip2ForConditionalGeneration"],
    )


@pytest.mark.parametrize(
    ("precision", "device", "gigabytes"),
    [
        ("fp32", CUDA, 14.98),
        ("fp16", CUDA, 7.70),  # the Q-Former in fp32
        ("bf16", CUDA, 7.49),
        ("int8", CUDA, 4.20),
        ("int4", CUDA, 2.50),
        ("int8", CPU, 3.99),  # the Q-Former in bf16
        ("int4", CPU, 2.29),
    ],
)
def test_the_weights_of_blip2_opt_2_7b(
    precision: str, device: torch.device, gigabytes: float
) -> None:
    memory = estimate(real_config(), precision, device)
    assert memory.parameters == 3_744_761_856
    assert memory.weight_bytes == pytest.approx(gigabytes * GB, abs=0.005 * GB)


def test_a_row_of_blip2_opt_2_7b() -> None:
    memory = estimate(real_config(), "fp16")
    # 32 layers, keys and values, 2560 wide, two bytes; 32 image tokens and 32 of text.
    assert memory.token_bytes == 32 * 2 * 2560 * 2
    assert memory.row_tokens == 64
    assert memory.row_bytes == 64 * memory.token_bytes
    assert estimate(real_config(), "fp32").row_bytes == 2 * memory.row_bytes


def test_rows_that_look_at_a_source_hold_its_keys_and_values_too() -> None:
    t5 = T5Config(d_model=2048, d_kv=64, d_ff=5120, num_layers=24, num_heads=32, vocab_size=32128)
    memory = estimate(blip2_config(t5), "bf16")
    assert memory.token_bytes == 24 * 2 * 2048 * 2
    assert memory.row_bytes == (64 + 64) * memory.token_bytes  # written, and read
    caption = BlipConfig(
        text_config={"encoder_hidden_size": 1024},
        vision_config={"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
        architectures=["BlipForConditionalGeneration"],
    )
    memory = estimate(caption, "fp16")
    assert memory.row_bytes == (64 + 24**2 + 1) * 12 * 2 * 768 * 2  # 384 pixels in 24 patches


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "bf16") for name in CHECKPOINTS), ("florence2", "fp32")],
)
def test_the_estimated_weights_are_those_of_the_loaded_network(
    save_once: SaveOnce, name: str, precision: str
) -> None:
    snapshot = resolve(str(save_once(name)))
    config = read_config(snapshot)
    network_class = getattr(transformers, config.architectures[0])
    network = read_weights(network_class, snapshot, precision, CPU)
    parameters, buffers = [*network.parameters()], [*network.buffers()]
    memory = estimate(config, precision, CPU)
    assert memory.parameters == sum(weight.numel() for weight in parameters)
    assert memory.weight_bytes == sum(tensor.nbytes for tensor in parameters + buffers)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_row_is_what_the_slots_give_it(precision: str) -> None:
    model = as_generator(load(str(DEMO_MODEL), precision, "cpu"))
    assert model is not None
    memory = estimate(read_config(resolve(str(DEMO_MODEL))), precision, CPU)
    assert model.decoder.new_slots(8).buffers.nbytes == 8 * memory.row_bytes


def test_as_many_rows_fit_as_the_memory_holds() -> None:
    memory = estimate(real_config(), "fp16")
    per_row = memory.row_bytes + memory.work_bytes
    assert memory.rows(memory.weight_bytes) == 0
    assert memory.rows(GB) == 0
    assert memory.rows(memory.least_bytes - 1) == 0
    assert memory.rows(memory.least_bytes) == 1
    for rows in (IMAGES, 500):
        free = memory.weight_bytes + min(rows, IMAGES) * memory.image_bytes + rows * per_row
        assert memory.rows(free) == rows
        assert memory.rows(free - 1) == rows - 1


def test_what_a_cpu_keeps_twice_in_fp32_counts() -> None:
    # Of per_row of 39 layers the projection alone is small enough to be packed: 1408 x 1408.
    memory = estimate(real_config(), "fp32", CPU)
    assert memory.copy_bytes == 39 * 1408 * 1408 * 4
    assert memory.least_bytes > memory.weight_bytes + memory.copy_bytes
    assert estimate(real_config(), "fp32", CUDA).copy_bytes == 0
    assert estimate(real_config(), "bf16", CPU).copy_bytes == 0


def test_an_unknown_architecture_is_rejected() -> None:
    config = real_config()
    config.architectures = ["NoSuchNetwork"]
    with pytest.raises(LoadError, match="NoSuchNetwork"):
        estimate(config, "fp16")


def test_a_model_that_does_not_fit_is_rejected_before_its_weights_are_read(tmp_path: Path) -> None:
    config = real_config()
    # Hundreds of times as much; there is no file with weights.
    config.text_config.num_hidden_layers = 1
    config.text_config.ffn_dim *= 20_000
    config.save_pretrained(tmp_path)
    with pytest.raises(LoadError, match=r"needs [\d.]+ GB in bf16, and cpu has [\d.]+ GB free"):
        read_weights(Blip2ForConditionalGeneration, resolve(str(tmp_path)), "bf16", CPU)
