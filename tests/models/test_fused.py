from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from worker.models import fused as module
from worker.models.fused import as_function, fuse_linears


class Doubling(nn.Linear):
    """A stand-in for a quantised layer: a subclass of nn.Linear with its own forward pass."""

    def forward(self, states: Tensor) -> Tensor:
        return 2 * super().forward(states)


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.LayerNorm(6), Doubling(6, 4), nn.ReLU()])
def test_a_function_computes_the_same_as_its_module(layer: nn.Module) -> None:
    states = torch.randn(3, 6)
    assert torch.equal(as_function(layer)(states), layer(states))


@pytest.mark.parametrize("last", [nn.Linear(6, 5), Doubling(6, 5), nn.Linear(6, 5, bias=False)])
@torch.inference_mode()
def test_fused_layers_compute_the_same_as_each_alone(last: nn.Linear) -> None:
    modules, states = [nn.Linear(6, 4), nn.Linear(6, 4), last], torch.randn(3, 2, 6)
    expected = [layer(states) for layer in modules]
    for fused, alone in zip(fuse_linears(modules)(states), expected, strict=True):
        torch.testing.assert_close(fused, alone)
    # The modules still work: `generate` uses them.
    for layer, alone in zip(modules, expected, strict=True):
        torch.testing.assert_close(layer(states), alone)


def test_fused_weights_are_stored_once_and_large_ones_are_not_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = [nn.Linear(6, 4) for _ in range(3)]
    fuse_linears(small)
    storages = {layer.weight.untyped_storage().data_ptr() for layer in small}
    assert len(storages) == 1
    monkeypatch.setattr(module, "MAX_FUSED_BYTES", 10)
    large = [nn.Linear(6, 4) for _ in range(3)]
    before = [layer.weight.data_ptr() for layer in large]
    fuse_linears(large)
    assert [layer.weight.data_ptr() for layer in large] == before
