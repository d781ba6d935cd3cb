from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worker.engine.capacity import FIRST_CAPACITY
from worker.engine.slots import SlotCache

HEADS, DIM, LAYERS = 2, 3, 2


@pytest.fixture(autouse=True)
def inference() -> object:
    with torch.inference_mode():
        yield


def new_slots(rows: int = 6, limit: int = 200, source_limit: int = 0) -> SlotCache:
    cpu = torch.device("cpu")
    return SlotCache((LAYERS, HEADS, DIM), rows, limit, torch.float32, cpu, source_limit)


def states(values: list[list[float]]) -> Tensor:
    """Build keys (rows, new, heads, dim) that identify their row and token."""
    return torch.tensor(values)[:, :, None, None].expand(-1, -1, HEADS, DIM).contiguous()


def prefill(slots: SlotCache, rows: dict[int, int]) -> None:
    """Prefill rows named 1, 2, ...; the key of token t of row r is r + t / 1000."""
    forward = slots.begin_prefill(list(rows.values()))
    keys = states([[row + token / 1000 for token in range(forward.width)] for row in rows])
    for layer in range(LAYERS):
        slots.store(forward, layer, keys, -keys)
    slots.append(list(rows.values()))


def decode(slots: SlotCache, names: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Decode one token a row in every layer; return the last layer's view, and the mask."""
    forward = slots.begin_decode(0, len(names))
    positions = forward.positions[:, 0].tolist()
    keys = states([[n + p / 1000] for n, p in zip(names, positions, strict=True)])
    for layer in range(LAYERS):
        seen, values = slots.store(forward, layer, keys, -keys)
    slots.advance()
    return seen, values, forward.mask


def visible(seen: Tensor, mask: Tensor) -> list[list[float]]:
    """Return the keys that each row may attend to, by the first head and dimension."""
    return [
        [round(x, 3) for x in row[open_].tolist()]
        for row, open_ in zip(seen[:, :, 0, 0], mask[:, 0, 0] == 0, strict=True)
    ]


def expected_keys(name: int, length: int) -> list[float]:
    return [round(name + token / 1000, 3) for token in range(length)]


def test_each_row_sees_its_own_tokens_and_nothing_else() -> None:
    slots = new_slots()
    prefill(slots, {1: 3, 2: 5, 3: 1})
    decode(slots, [1, 2, 3])
    seen, values, mask = decode(slots, [1, 2, 3])
    assert visible(seen, mask) == [expected_keys(1, 5), expected_keys(2, 7), expected_keys(3, 3)]
    assert torch.equal(values, -seen)


def test_new_rows_join_after_the_active_rows() -> None:
    slots = new_slots()
    prefill(slots, {1: 2})
    decode(slots, [1])
    prefill(slots, {2: 4, 3: 1})
    assert visible(*decode(slots, [1, 2, 3])[::2]) == [
        expected_keys(1, 4),
        expected_keys(2, 5),
        expected_keys(3, 2),
    ]


def test_the_last_rows_move_into_freed_slots() -> None:
    slots = new_slots()
    prefill(slots, {1: 2, 2: 3, 3: 4, 4: 5, 5: 6})
    slots.tokens[:5] = torch.tensor([10, 20, 30, 40, 50])
    order = slots.drop([1, 0, 4])
    assert order == [3, 2] or order == [2, 3]
    names = [order[0] + 1, order[1] + 1]
    assert slots.tokens[:2].tolist() == [10 * name for name in names]
    assert slots.lengths == [name + 1 for name in names]
    assert visible(*decode(slots, names)[::2]) == [expected_keys(name, name + 2) for name in names]


def test_a_reused_slot_shows_nothing_of_its_former_row() -> None:
    slots = new_slots(rows=1)
    prefill(slots, {1: 9})
    slots.drop([0])
    prefill(slots, {2: 2})
    assert visible(*decode(slots, [2])[::2]) == [expected_keys(2, 3)]


def test_a_free_slot_points_at_its_own_first_position() -> None:
    # Given a row that has filled its slot: its next position would be its neighbour's first
    slots = new_slots(rows=2, limit=FIRST_CAPACITY)
    prefill(slots, {1: FIRST_CAPACITY})
    slots.drop([0])
    # Then a pass over free slots stays within their bounds
    assert slots.positions.tolist() == [0, 0]


def test_a_fixed_width_is_kept_whatever_the_rows_need() -> None:
    slots = new_slots(source_limit=20)
    prefill_with_source(slots, [3, 7])
    slots.fixed_widths = (16, 12)
    forward = slots.begin_decode(0, 6)  # four of these slots are free
    assert (forward.width, forward.source_width) == (16, 12)
    assert forward.source_mask is not None
    unmasked = (forward.source_mask[:, 0, 0] == 0).sum(1).tolist()
    assert unmasked == [3, 7, 1, 1, 1, 1]  # never none, which would give NaN


def test_buffers_grow_by_doubling_and_keep_their_content() -> None:
    slots = new_slots(limit=200)
    prefill(slots, {1: FIRST_CAPACITY, 2: 3})
    seen, _, mask = decode(slots, [1, 2])
    assert slots.capacity == 2 * FIRST_CAPACITY
    assert visible(seen, mask) == [expected_keys(1, FIRST_CAPACITY + 1), expected_keys(2, 4)]
    slots.reserve(150)
    assert slots.capacity == 200  # the model's limit, not 256


def test_a_row_beyond_the_models_limit_is_rejected() -> None:
    with pytest.raises(ValueError, match="exceed"):
        new_slots(limit=80).reserve(81)


@pytest.mark.parametrize("others", [0, 1, 3])
def test_the_memory_of_a_long_row_is_released_when_it_is_gone(others: int) -> None:
    slots = new_slots()
    prefill(slots, {1: 150} | {name: name for name in range(2, 2 + others)})
    assert slots.capacity == 150
    order = slots.drop([0])
    assert (slots.capacity, slots.count) == (FIRST_CAPACITY, others)
    # The other rows have moved with their content
    if others:
        names = [row + 1 for row in order]
        seen, _, mask = decode(slots, names)
        assert visible(seen, mask) == [expected_keys(name, name + 1) for name in names]


@pytest.mark.parametrize("others", [0, 1, 3])
def test_the_memory_of_a_long_source_is_released_when_its_row_is_gone(others: int) -> None:
    slots = new_slots(source_limit=300)
    prefill_with_source(slots, [300, *range(2, 2 + others)])
    assert slots.source_capacity == 300
    order = slots.drop([0])
    assert slots.source_capacity == FIRST_CAPACITY
    if others:
        assert visible_source(slots) == [expected_keys(row + 1, row + 1) for row in order]


def test_the_memory_of_a_long_source_remains_while_another_row_needs_it() -> None:
    slots = new_slots(source_limit=300)
    lengths = [300, 200, 3]
    prefill_with_source(slots, lengths)
    order = slots.drop([0])
    assert visible_source(slots) == [expected_keys(row + 1, lengths[row]) for row in order]


@pytest.mark.parametrize("kind", ["length", "source"])
def test_buffers_grow_only_within_the_free_memory(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = new_slots(source_limit=200)
    prefill_with_source(slots, [3, 5])
    size = slots.buffers.nbytes * 150 // FIRST_CAPACITY
    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.device.free_bytes", lambda device: size - 1)
        with pytest.raises(MemoryError, match=f"{size:,} bytes"):
            slots.begin_prefill([150 if kind == "length" else 1], [150 if kind == "source" else 1])
    assert visible_source(slots) == [expected_keys(1, 3), expected_keys(2, 5)]
    slots.begin_prefill([150], [150])
    assert (slots.capacity, slots.source_capacity) == (150, 150)


def test_without_memory_for_smaller_buffers_the_larger_ones_remain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = new_slots(source_limit=300)
    prefill_with_source(slots, [300, 2, 3])
    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.device.free_bytes", lambda device: 0)
        assert slots.drop([0]) == [2, 1]
    assert slots.source_capacity == 300
    assert visible_source(slots) == [expected_keys(3, 3), expected_keys(2, 2)]
    slots.drop([0])
    assert slots.source_capacity == FIRST_CAPACITY


def test_a_scrubbed_row_leaves_no_nan_to_its_successor() -> None:
    slots = new_slots(rows=1)
    forward = slots.begin_prefill([8])
    broken = torch.full((1, 8, HEADS, DIM), torch.nan)
    for layer in range(LAYERS):
        slots.store(forward, layer, broken, torch.zeros(1, 8, HEADS, DIM))
    slots.append([8])
    slots.scrub(0)
    slots.drop([0])
    prefill(slots, {1: 2})
    assert slots.buffers.isfinite().all()


def test_a_part_of_the_rows_can_be_decoded_again_before_the_step_counts() -> None:
    slots = new_slots()
    prefill(slots, {1: 2, 2: 3, 3: 4})
    slots.begin_decode(0, 3)
    for part, names in (((0, 1), [1]), ((1, 3), [2, 3])):
        forward = slots.begin_decode(*part)
        positions = forward.positions[:, 0].tolist()
        keys = states([[n + p / 1000] for n, p in zip(names, positions, strict=True)])
        seen, _ = slots.store(forward, 0, keys, -keys)
        assert visible(seen, forward.mask) == [expected_keys(name, name + 2) for name in names]
    assert slots.lengths == [2, 3, 4]


def prefill_with_source(slots: SlotCache, sources: list[int], first: int = 1) -> None:
    """Prefill rows of one token; position p of row r's source has the key r + p / 1000."""
    forward = slots.begin_prefill([1] * len(sources), sources)
    rows = range(first, first + len(sources))
    keys = states([[row + p / 1000 for p in range(forward.source_width)] for row in rows])
    for layer in range(LAYERS):
        slots.store_source(forward, layer, keys, -keys)
    slots.append([1] * len(sources), sources)


def visible_source(slots: SlotCache) -> list[list[float]]:
    forward = slots.begin_decode(0, slots.count)
    keys, values = slots.source(forward, LAYERS - 1)
    assert torch.equal(values, -keys)
    mask = torch.zeros(slots.count, 1, 1, forward.source_width)
    return visible(keys, mask if forward.source_mask is None else forward.source_mask)


def test_each_row_sees_its_own_source_and_nothing_else() -> None:
    slots = new_slots(source_limit=20)
    prefill_with_source(slots, [3, 7])
    prefill_with_source(slots, [1, 5], first=3)
    assert visible_source(slots) == [
        expected_keys(1, 3),
        expected_keys(2, 7),
        expected_keys(3, 1),
        expected_keys(4, 5),
    ]


def test_sources_of_one_length_need_no_mask() -> None:
    slots = new_slots(source_limit=20)
    prefill_with_source(slots, [7, 7])
    assert slots.begin_decode(0, 2).source_mask is None


def test_a_source_moves_with_its_row() -> None:
    slots = new_slots(source_limit=20)
    prefill_with_source(slots, [3, 7, 2])
    assert slots.drop([0]) == [2, 1]
    assert visible_source(slots) == [expected_keys(3, 2), expected_keys(2, 7)]


def test_source_buffers_grow_and_keep_their_content() -> None:
    slots = new_slots(source_limit=200)
    prefill_with_source(slots, [3])
    prefill_with_source(slots, [FIRST_CAPACITY + 1], first=2)
    assert visible_source(slots) == [expected_keys(1, 3), expected_keys(2, FIRST_CAPACITY + 1)]
    with pytest.raises(ValueError, match="exceed"):
        slots.begin_prefill([1], [201])
