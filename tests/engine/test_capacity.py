"""Growth and shrinking of the slots' capacity."""

from __future__ import annotations

import random

import pytest

from worker.engine.capacity import FIRST_CAPACITY, CapacityPolicy


def test_the_capacity_doubles_up_to_the_limit() -> None:
    policy = CapacityPolicy(300)
    assert [policy.grow(64, length) for length in (1, 64, 65, 128, 200, 300)] == [
        64,
        64,
        128,
        128,
        200,
        300,
    ]
    assert policy.grow(200, 201) == 300
    with pytest.raises(ValueError, match=r"301 tokens exceed the model's limit of 300"):
        policy.grow(64, 301)


def test_the_capacity_shrinks_when_the_long_row_is_gone() -> None:
    policy = CapacityPolicy(512)
    assert policy.shrink(512, [500], []) == FIRST_CAPACITY
    assert policy.shrink(512, [500], [20, 30]) == FIRST_CAPACITY
    assert policy.shrink(512, [500], [20, 100]) == 200
    # Not while a row fills more than a quarter of it
    assert policy.shrink(512, [500], [20, 129]) == 512


def test_the_capacity_is_never_less_than_an_ordinary_row_needs() -> None:
    policy = CapacityPolicy(577, first=577)
    assert policy.first == policy.shrink(577, [577], []) == 577
    assert CapacityPolicy(20).first == 20
    assert CapacityPolicy(0).shrink(0, [0], []) == 0


def test_with_patience_the_capacity_shrinks_after_a_number_of_short_rows() -> None:
    policy = CapacityPolicy(512, patience=3)
    assert policy.shrink(512, [500], []) == 512
    assert policy.shrink(512, [20, 20], []) == 512
    assert policy.shrink(512, [400], []) == 512  # counts again from here
    assert policy.shrink(512, [20, 20], []) == 512
    assert policy.shrink(512, [20], [500]) == 512  # one is active
    assert policy.shrink(512, [20], [30]) == FIRST_CAPACITY


def test_the_capacity_always_holds_every_active_row() -> None:
    generator = random.Random(3)
    for patience in (0, 5):
        policy, active = CapacityPolicy(1000, patience=patience), list[int]()
        capacity = policy.first
        for _ in range(2000):
            if active and generator.random() < 0.5:
                leaving = [active.pop(generator.randrange(len(active)))]
                capacity = policy.shrink(capacity, leaving, active)
            else:
                length = int(10 ** generator.uniform(0, 3))
                capacity = policy.grow(capacity, length)
                active.append(length)
            assert max(active, default=0) <= capacity <= 1000
            assert capacity >= policy.first
