"""The vision encoder's fast path against transformers' own forward pass, on random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2VisionConfig,
    Blip2VisionModel,
    BlipVisionConfig,
    BlipVisionModel,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
)

from worker.models import onednn
from worker.models.qformer import QFormer
from worker.models.vision import TILE, VisionTower

SIZE = 16
WIDTH: dict[str, Any] = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 96}
VISION: dict[str, Any] = {**WIDTH, "num_hidden_layers": 2, "image_size": SIZE, "patch_size": 4}
FAMILIES = {
    "blip": (BlipVisionModel, BlipVisionConfig),
    "blip-2": (Blip2VisionModel, Blip2VisionConfig),
    "instructblip": (InstructBlipVisionModel, InstructBlipVisionConfig),
}


class Coarse(nn.Linear):
    """A stand-in for a quantised layer: its weight alone does not determine its output."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows).round(decimals=1)


def randomise(network: Any) -> Any:
    """Draw every weight, including norms and biases, which start as ones and zeros."""
    torch.manual_seed(5)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3)
    return network.eval().requires_grad_(False)


def vision_model(family: str, **changes: Any) -> Any:
    network_class, config_class = FAMILIES[family]
    return randomise(network_class(config_class(**{**VISION, **changes})))


def blip2(**changes: Any) -> Any:
    qformer = {**WIDTH, "encoder_hidden_size": 48, "vocab_size": 1, "num_hidden_layers": 3}
    text = {"model_type": "opt", "vocab_size": 64, "word_embed_proj_dim": 32, "ffn_dim": 64}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**qformer, **changes},
        text_config={**text, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1},
        num_query_tokens=5,
    )
    return randomise(Blip2ForConditionalGeneration(config))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def qformer_of(network: Any) -> QFormer:
    return QFormer(network.qformer, network.query_tokens, network.language_projection)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 3, TILE, 2 * TILE + 1])
@torch.inference_mode()
def test_a_tower_equals_the_vision_model(family: str, count: int) -> None:
    network, pixels = vision_model(family), images(count)
    hidden = VisionTower(network)(pixels)
    torch.testing.assert_close(
        hidden, network(pixel_values=pixels).last_hidden_state, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("packed", [True, False])
@torch.inference_mode()
def test_weights_of_any_size_give_the_same(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "MAX_PACKED_BYTES", 2**20 if packed else 0)
    network, pixels = vision_model("blip-2"), images(4)
    torch.testing.assert_close(
        VisionTower(network)(pixels),
        network(pixel_values=pixels).last_hidden_state,
        rtol=1e-5,
        atol=1e-5,
    )


@torch.inference_mode()
def test_the_pixels_that_come_in_are_left_as_they_are() -> None:
    pixels = images(2)
    before = pixels.clone()
    VisionTower(vision_model("blip"))(pixels)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_half_precision_runs_the_modules(family: str) -> None:
    network, pixels = vision_model(family).to(torch.bfloat16), images(3).to(torch.bfloat16)
    hidden = VisionTower(network)(pixels)
    assert torch.equal(hidden, network(pixel_values=pixels).last_hidden_state)


@torch.inference_mode()
def test_a_layer_that_is_no_plain_linear_runs_as_a_module() -> None:
    network, pixels = vision_model("blip-2"), images(3)
    network.encoder.layers[1].mlp.fc2 = randomise(Coarse(96, 48))
    hidden = VisionTower(network)(pixels)
    assert torch.equal(hidden, network(pixel_values=pixels).last_hidden_state)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu_new", "relu"])
@torch.inference_mode()
def test_another_activation_is_not_taken_for_an_exact_gelu(activation: str) -> None:
    network, pixels = vision_model("blip", hidden_act=activation), images(3)
    torch.testing.assert_close(
        VisionTower(network)(pixels),
        network(pixel_values=pixels).last_hidden_state,
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("frequency", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 17])
@torch.inference_mode()
def test_a_qformer_equals_get_image_features(frequency: int, count: int) -> None:
    network = blip2(cross_attention_frequency=frequency)
    expected = network.get_image_features(images(count), return_dict=True)
    features = qformer_of(network)(expected.last_hidden_state)
    torch.testing.assert_close(features, expected.pooler_output, rtol=1e-5, atol=2e-5)


@torch.inference_mode()
def test_a_qformer_in_fp32_under_a_vision_model_in_half_precision() -> None:
    network = blip2().to(torch.bfloat16)
    network.qformer.float()
    network.query_tokens.data = network.query_tokens.data.float()
    expected = network.get_image_features(images(3).to(torch.bfloat16), return_dict=True)
    features = qformer_of(network)(expected.last_hidden_state)
    assert features.dtype == torch.bfloat16
    # Equal before the projection to fp32 rounding, which may tip a bfloat16 one place further.
    torch.testing.assert_close(features, expected.pooler_output, rtol=2e-2, atol=2e-2)


@torch.inference_mode()
def test_a_qformer_in_half_precision_runs_the_modules() -> None:
    network = blip2().to(torch.bfloat16)
    expected = network.get_image_features(images(3).to(torch.bfloat16), return_dict=True)
    features = qformer_of(network)(expected.last_hidden_state)
    assert torch.equal(features, expected.pooler_output)


@torch.inference_mode()
def test_a_qformer_with_a_layer_that_is_no_plain_linear_runs_the_modules() -> None:
    network = blip2()
    network.qformer.encoder.layer[0].crossattention.attention.key = randomise(Coarse(48, 48))
    expected = network.get_image_features(images(3), return_dict=True)
    features = qformer_of(network)(expected.last_hidden_state)
    assert torch.equal(features, expected.pooler_output)
