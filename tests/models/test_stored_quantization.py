"""Checkpoints saved quantized: those of bitsandbytes as transformers dequantizes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig, Blip2ForConditionalGeneration

from config.settings import DEMO_MODEL
from tests.models.adapters import lora, merge, save_adapter
from tests.models.tiny_networks import FAMILIES
from tests.models.traffic import sample_of
from worker import info
from worker.engine.errors import LoadError
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_weights
from worker.models.registry import PRECISIONS, load

CPU = torch.device("cpu")
BLIP2 = Blip2ForConditionalGeneration
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
#: Family, type of the weights that were quantized, and how.
SAVED: dict[str, tuple[str, torch.dtype, dict[str, Any]]] = {
    "int8": ("blip2-opt", torch.float16, {"load_in_8bit": True}),
    "int8 skipping modules": (
        "blip-vqa",
        torch.float32,
        {"load_in_8bit": True, "llm_int8_skip_modules": ["vision_model"]},
    ),
    "nf4": ("blip2-t5", torch.bfloat16, NF4),
    "fp4": ("blip-retrieval", torch.float16, {**NF4, "bnb_4bit_quant_type": "fp4"}),
    "nf4 of quantized scales": (
        "instructblip",
        torch.bfloat16,
        {**NF4, "bnb_4bit_use_double_quant": True},
    ),
    "nf4 stored as bf16": (
        "blip2-opt",
        torch.bfloat16,
        {**NF4, "bnb_4bit_quant_storage": torch.bfloat16},
    ),
}


def save_quantized(path: Path, family: str, dtype: torch.dtype, how: dict[str, Any]) -> Any:
    """Save a random network as bitsandbytes and transformers do it; return its class."""
    network_class, config = FAMILIES[family]
    torch.manual_seed(2)
    network = network_class(config())
    for weight in network.parameters():
        # Beyond the tiny initial values, which all would be zeros in half precision
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.1)
    network.to(dtype).save_pretrained(path / "plain")
    settings: Any = BitsAndBytesConfig
    quantized = network_class.from_pretrained(
        path / "plain", dtype=dtype, device_map={"": "cpu"}, quantization_config=settings(**how)
    )
    quantized.save_pretrained(path / "quantized")
    return network_class


def dequantized(network_class: Any, path: Path) -> Any:
    network = network_class.from_pretrained(path, dtype=torch.float32, device_map={"": "cpu"})
    return network.dequantize(dtype=torch.float32).float()


def save_dequantized(path: Path) -> None:
    """Save a plain network with the dequantized weights."""
    full = BLIP2.from_pretrained(path / "plain", dtype=torch.float32)
    full.load_state_dict(dequantized(BLIP2, path / "quantized").state_dict())
    full.save_pretrained(path / "full")


def read(network_class: Any, path: Path, precision: str, adapter: str = "") -> Any:
    return read_weights(network_class, resolve(str(path), adapter=adapter), precision, CPU)


def assert_equal_weights(network: Any, expected: Any) -> None:
    weights, reference = network.state_dict(), expected.state_dict()
    assert weights.keys() == reference.keys()
    for name, tensor in reference.items():
        assert weights[name].dtype == tensor.dtype, name
        assert torch.equal(weights[name], tensor), name


@pytest.mark.parametrize(
    "kind", sample_of(SAVED, "int8 skipping modules", "nf4 of quantized scales", "fp4")
)
def test_weights_are_those_that_transformers_dequantizes(tmp_path: Path, kind: str) -> None:
    network_class = save_quantized(tmp_path, *SAVED[kind])
    path = tmp_path / "quantized"
    settings = json.loads((path / "config.json").read_text())["quantization_config"]
    assert settings["quant_method"] == "bitsandbytes"
    reference = dequantized(network_class, path)
    network = read(network_class, path, "fp32")
    assert_equal_weights(network, reference)
    plain = network_class.from_pretrained(tmp_path / "plain", dtype=torch.float32).state_dict()
    weights = network.state_dict()
    assert sum(bool((weights[name] != plain[name]).any()) for name in plain) >= 8
    assert not hasattr(network.config, "quantization_config")


def test_each_precision_is_that_of_the_dequantized_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "quantized"
    save_quantized(tmp_path, *SAVED["int8"])
    save_dequantized(tmp_path)
    for precision in PRECISIONS:
        full = read(BLIP2, tmp_path / "full", precision)
        assert_equal_weights(read(BLIP2, path, precision), full)


def test_an_adapter_is_merged_into_dequantized_weights(tmp_path: Path) -> None:
    path = tmp_path / "quantized"
    save_quantized(tmp_path, "blip2-opt", torch.bfloat16, NF4)
    adapter = save_adapter(BLIP2, tmp_path / "plain", tmp_path / "adapter", lora())
    save_dequantized(tmp_path)
    merged = merge(BLIP2, tmp_path / "full", adapter)
    assert_equal_weights(read(BLIP2, path, "fp32", str(adapter)), merged)


def test_an_older_checkpoint_that_does_not_name_its_method_is_read(tmp_path: Path) -> None:
    save_quantized(tmp_path, *SAVED["int8"])
    path = tmp_path / "quantized"
    network = read(BLIP2, path, "fp32")
    settings = json.loads((path / "config.json").read_text())
    settings["quantization_config"] = {"load_in_8bit": True, "llm_int8_threshold": 6.0}
    (path / "config.json").write_text(json.dumps(settings))
    assert_equal_weights(read(BLIP2, path, "fp32"), network)


def as_saved_by(path: Path, method: dict[str, Any]) -> None:
    path.mkdir()
    for file in DEMO_MODEL.iterdir():
        (path / file.name).symlink_to(file)
    settings = json.loads((DEMO_MODEL / "config.json").read_text())
    (path / "config.json").unlink()
    (path / "config.json").write_text(json.dumps(settings | {"quantization_config": method}))


@pytest.mark.parametrize(
    "method", ["gptq", "awq", "compressed-tensors", "fp8", "hqq", "torchao", "new"]
)
def test_another_method_is_one_sentence_with_a_remedy(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model"
    as_saved_by(path, {"quant_method": method, "bits": 4})
    with pytest.raises(LoadError) as raised:
        load(str(path), device="cpu")
    expected = f"Model '{path}' was saved quantized by {method}, which a worker does not read; set"
    assert str(raised.value).startswith(expected)
    assert info.main([str(path)]) == 2
    assert expected in capsys.readouterr().err


def test_without_bitsandbytes_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_quantized(tmp_path, *SAVED["int8"])
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(LoadError, match="needs the package bitsandbytes; install the packages of"):
        read(BLIP2, tmp_path / "quantized", "fp32")
