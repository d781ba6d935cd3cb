"""Runs every kernel once before the first request, and measures what admission costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from worker.engine.slots import SlotCache
from worker.models import Model

#: Images in a warm-up encode: enough to tell the fixed cost from the cost of one more image.
MANY = 8
REPEATS = 5
#: No device measured so far lies above 3. A machine that is busy while it starts gives figures
#: beyond all reason, and an engine that believes them lets its rows wait for ever.
MOST_PREFILL_STEPS = 4.0


@torch.inference_mode()
def measure_prefill_steps(model: Model, slots: SlotCache) -> float:
    """The fixed cost of encoding and prefilling one batch, in decode steps of all rows.

    The time of one image against several gives a line; where it meets zero images is the fixed
    cost. The decode steps run at 1, 2, 4, ... rows, so that the kernels of each size are ready.
    """
    few, many = 1, min(MANY, slots.rows)
    one_s = best_time(model, lambda: pass_through(model, slots, few))
    many_s = best_time(model, lambda: pass_through(model, slots, many))
    each_s = (many_s - one_s) / (many - few) if many > few else 0.0
    step_s = [decode_s(model, slots, rows) for rows in row_counts(slots.rows)][-1]
    return min(MOST_PREFILL_STEPS, max(0.0, one_s - each_s) / step_s)


def decode_s(model: Model, slots: SlotCache, rows: int) -> float:
    """Seconds of one decode step of `rows` rows."""
    enter(model, slots, rows)
    seconds = best_time(model, lambda: model.decode(slots, 0, rows))
    slots.drop(range(rows))
    return seconds


def pass_through(model: Model, slots: SlotCache, rows: int) -> None:
    enter(model, slots, rows)
    slots.drop(range(rows))


def enter(model: Model, slots: SlotCache, rows: int) -> None:
    """Encode grey images, as many as the timing asks for, and prefill `rows` rows of them."""
    size, images = model.image_size, min(rows, MANY)
    pixels = torch.full((images, size, size, 3), 128, dtype=torch.uint8, device=model.device)
    features = model.encode(pixels).repeat(-(-rows // images), 1, 1)[:rows]
    model.prefill(features, [model.prompt("caption", "")] * rows, slots)


def row_counts(max_rows: int) -> list[int]:
    """1, 2, 4, ... and `max_rows` itself."""
    return sorted({min(max_rows, 2**power) for power in range(max_rows.bit_length() + 1)})


def best_time(model: Model, work: Callable[[], object]) -> float:
    """The shortest of a few runs, in seconds, after one that does not count."""
    work()
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        best = min(best, time.perf_counter() - started)
    return best
