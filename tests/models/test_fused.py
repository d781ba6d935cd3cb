from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from worker.models import fused as module
from worker.models.fused import as_function, fuse_linears


class Doubling(nn.Linear):
    """Stands for a quantised layer: a linear one by name that computes something of its own."""

    def forward(self, states: Tensor) -> Tensor:
        return 2 * super().forward(states)


@pytest.mark.parametrize("one", [nn.Linear(6, 4), nn.LayerNorm(6), Doubling(6, 4), nn.ReLU()])
def test_a_bare_function_gives_what_the_module_gives(one: nn.Module) -> None:
    states = torch.randn(3, 6)
    assert torch.equal(as_function(one)(states), one(states))


@pytest.mark.parametrize("last", [nn.Linear(6, 5), Doubling(6, 5), nn.Linear(6, 5, bias=False)])
@torch.inference_mode()
def test_layers_side_by_side_give_what_each_gives(last: nn.Linear) -> None:
    modules, states = [nn.Linear(6, 4), nn.Linear(6, 4), last], torch.randn(3, 2, 6)
    expected = [one(states) for one in modules]
    for got, alone in zip(fuse_linears(modules)(states), expected, strict=True):
        torch.testing.assert_close(got, alone)
    # The modules still work: `generate` uses them.
    for one, alone in zip(modules, expected, strict=True):
        torch.testing.assert_close(one(states), alone)


def test_joined_weights_are_held_once_and_large_ones_stay_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = [nn.Linear(6, 4) for _ in range(3)]
    fuse_linears(small)
    storages = {one.weight.untyped_storage().data_ptr() for one in small}
    assert len(storages) == 1
    monkeypatch.setattr(module, "MAX_JOINED", 10)
    large = [nn.Linear(6, 4) for _ in range(3)]
    before = [one.weight.data_ptr() for one in large]
    fuse_linears(large)
    assert [one.weight.data_ptr() for one in large] == before
