from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from worker.engine.halving import GROW_AFTER, Failure, Halving

Batch = Sequence[int]


def outcome(halving: Halving[int, list[int]], items: Batch) -> list[object]:
    """Return each item's result: itself, or its error code."""
    seen: list[object] = []
    for batch, result in halving.run(items):
        seen += [result.code] if isinstance(result, Failure) else result
        assert len(batch) == (1 if isinstance(result, Failure) else len(result))
    return seen


def test_one_bad_item_fails_alone() -> None:
    def work(batch: Batch) -> list[int]:
        if 5 in batch:
            raise RuntimeError("shape mismatch\nand a long trace")
        return list(batch)

    halving = Halving(work, limit=8)
    assert outcome(halving, range(8)) == [0, 1, 2, 3, 4, "internal", 6, 7]
    assert halving.limit == 8  # the size was not the cause


def test_the_size_that_fits_memory_is_remembered() -> None:
    sizes = []

    def work(batch: Batch) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(batch)

    halving = Halving(work, limit=16)
    assert outcome(halving, range(16)) == list(range(16))
    assert halving.limit == 2
    sizes.clear()
    assert outcome(halving, range(6)) == list(range(6))
    assert sizes == [2, 2, 2]


def test_an_item_too_large_by_itself_does_not_make_later_batches_smaller() -> None:
    def work(batch: Batch) -> list[int]:
        if 5 in batch:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(batch)

    halving = Halving(work, limit=8)
    assert outcome(halving, range(8)) == [0, 1, 2, 3, 4, "out_of_memory", 6, 7]
    assert halving.limit == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_an_item_that_does_not_fit_alone_is_out_of_memory(error: Exception) -> None:
    def work(batch: Batch) -> list[int]:
        raise error

    assert outcome(Halving(work, limit=4), range(2)) == ["out_of_memory"] * 2


def test_a_broken_device_is_not_blamed_on_the_items() -> None:
    def work(batch: Batch) -> list[int]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        outcome(Halving(work, limit=4), range(4))


def test_no_items_are_no_work() -> None:
    def work(batch: Batch) -> list[int]:
        raise AssertionError("called for nothing")

    assert outcome(Halving(work, limit=4), []) == []


def test_a_larger_batch_is_tried_again_after_a_while() -> None:
    capacity = 3

    def work(batch: Batch) -> list[int]:
        if len(batch) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(batch)

    halving = Halving(work, limit=8)
    outcome(halving, range(8))
    assert halving.limit == 2
    # When memory is free again
    capacity = 8
    outcome(halving, range(2 * GROW_AFTER))
    assert halving.limit == 4
    outcome(halving, range(4 * GROW_AFTER))
    outcome(halving, range(80 * GROW_AFTER))
    assert halving.limit == 8  # and never more than the initial limit
