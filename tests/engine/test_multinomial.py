"""Multinomial draws of each row with its own generator."""

from __future__ import annotations

import pytest
import torch

from worker.engine.multinomial import RowMultinomial, seeded_generator
from worker.engine.request import GenerationOptions

CPU = torch.device("cpu")
SEEDS = (3, 9, 2**62)


def draws(probabilities: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
    generators = [seeded_generator(GenerationOptions(seed=seed), CPU) for seed in seeds]
    with RowMultinomial(generators):
        first = torch.multinomial(probabilities, num_samples=5)
        return torch.cat([first, torch.multinomial(probabilities, num_samples=2)], dim=1)


def test_each_row_draws_as_it_does_alone_after_manual_seed() -> None:
    probabilities = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    together = draws(probabilities, SEEDS)
    for row, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        alone = [torch.multinomial(probabilities[row : row + 1], n) for n in (5, 2)]
        assert torch.equal(together[row : row + 1], torch.cat(alone, dim=1))


def test_other_functions_and_the_global_generator_are_not_changed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    draws(torch.ones(2, 8), (1, 2))
    assert torch.equal(torch.rand(4), expected)
    assert torch.multinomial(torch.eye(3), 1).flatten().tolist() == [0, 1, 2]


def test_rows_without_a_seed_differ() -> None:
    generators = [seeded_generator(GenerationOptions(), CPU) for _ in range(2)]
    with RowMultinomial(generators):
        first, second = torch.multinomial(torch.ones(2, 10_000), 4)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_probabilities_that_are_not_finite_raise_an_error(value: float) -> None:
    probabilities = torch.ones(2, 4)
    probabilities[1, 2] = value
    with pytest.raises(RuntimeError, match="not finite"):
        draws(probabilities, (1, 2))
