"""Comparing tokens with a reference that rounds as well.

Where the two best tokens of a row lie within rounding of each other, the row has no one answer: the
reference itself gives another when the states of the image are moved by as much as fp32 rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

#: Relative size of a nudge: some ten units in the last place of fp32, as a few layers round.
ROUNDING = 2e-6
NUDGES = 20
#: Share of rows that may be undecided; more would hide something.
MOST = 0.02


def assert_equal_but_for_ties(
    got: Sequence[object],
    expected: Sequence[object],
    network: Any,
    again: Callable[[int], object],
    most: float = MOST,
) -> None:
    """`again(i)` asks the reference, whose `network` has a vision_model, once more for row i."""
    differing = [i for i, pair in enumerate(zip(got, expected, strict=True)) if pair[0] != pair[1]]
    for i in differing:
        assert is_undecided(network, again, i, expected[i]), (i, got[i], expected[i])
    assert len(differing) <= most * len(expected)


def is_undecided(network: Any, again: Callable[[int], object], i: int, expected: object) -> bool:
    """Whether rounding changes what the reference says of row i."""
    for seed in range(NUDGES):
        with nudged(network, seed):
            if again(i) != expected:
                return True
    return False


@contextmanager
def nudged(network: Any, seed: int) -> Iterator[None]:
    """Moves the states of every image by rounding errors."""
    generator = torch.Generator().manual_seed(seed)  # sampling has its own

    def nudge(module: Any, inputs: Any, output: Any) -> Any:
        states = output.last_hidden_state
        noise = torch.randn(states.shape, generator=generator)
        output["last_hidden_state"] = states * (1 + ROUNDING * noise)
        return output

    hook = network.vision_model.register_forward_hook(nudge)
    try:
        yield
    finally:
        hook.remove()
