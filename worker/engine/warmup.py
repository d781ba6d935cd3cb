"""Runs every kernel once before the first request, and measures what a step costs.

From that follow two rules of admission: how long rows wait to be admitted together, and how many
images are encoded in one step, so that a step stays short also where an image takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from worker.engine.decoding import DecodingLane
from worker.engine.encoder import MAX_ENCODE_BATCH, Encoder
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.graphs import row_bucket
from worker.engine.halving import OUT_OF_MEMORY, describe
from worker.engine.matching import MatchingLane
from worker.engine.model import Generator, Vision
from worker.engine.request import Request
from worker.engine.slots import SlotCache

#: Images in a warm-up encode: enough to tell the fixed cost from the cost of one more image.
MANY = 8
REPEATS = 5
#: Seconds after which nothing is repeated that is only repeated for a better figure.
PATIENCE_S = 1.0
#: Seconds that encoding may hold up the rows that decode. Less would make newcomers join in twos
#: and threes where an image takes half a second, and steps of few rows cost as much as full ones.
MOST_ENCODE_S = 4.0
#: No device measured so far lies above 3. A machine that is busy while it starts gives figures
#: beyond all reason, and an engine that believes them lets its rows wait for ever.
MOST_PREFILL_STEPS = 4.0


@torch.inference_mode()
def warm_up(engine: Engine) -> None:
    """Prepare an idle engine for its first request. Raises LoadError."""
    try:
        for encoder in engine.encoders:
            limit_batches(encoder)
        if engine.decoding is not None and engine.grouped is not None:
            warm_decoding(engine.decoding)
            engine.grouped.max_images = engine.decoding.scheduler.max_images
        if engine.matching is not None:
            warm_matching(engine.matching)
    except (RuntimeError, MemoryError) as error:
        if describe(error).code != OUT_OF_MEMORY:
            raise
        model = engine.encoders[0].model
        raise LoadError(
            f"The rows of {model.name!r} do not fit the memory of {model.device};"
            " use fewer rows or a smaller precision."
        ) from error


def limit_batches(encoder: Encoder) -> None:
    """Let a run of the vision encoder take no longer than rows that decode can wait."""
    model = encoder.model
    each_s = best_time(model, lambda: model.encode(grey(model, 1)))
    encoder.batches.limit = max(1, min(MAX_ENCODE_BATCH, int(MOST_ENCODE_S / each_s)))


def warm_decoding(lane: DecodingLane) -> None:
    """Measure the fixed cost of encoding and prefilling one batch, in decode steps of all rows.

    The time of one image against several gives a line; where it meets zero images is the fixed
    cost. The decode steps run at 1, 2, 4, ... rows, so that the kernels of each size are ready.
    """
    model, slots, scheduler = lane.model, lane.slots, lane.scheduler
    if lane.encoder.batches.limit < MAX_ENCODE_BATCH:
        scheduler.max_images = lane.encoder.batches.limit
    few, many = 1, min(MANY, slots.rows, lane.encoder.batches.limit)
    one_s = best_time(model, lambda: pass_through(model, slots, few))
    many_s = best_time(model, lambda: pass_through(model, slots, many)) if many > few else one_s
    each_s = (many_s - one_s) / (many - few) if many > few else one_s
    step_s = decode_s(lane)
    scheduler.prefill_steps = min(MOST_PREFILL_STEPS, max(0.0, one_s - each_s) / step_s)


def warm_matching(lane: MatchingLane) -> None:
    """Run each of the matcher's passes once."""
    model = lane.model
    lane.scheduler.max_images = lane.encoder.batches.limit
    features, tokens = model.encode(grey(model, 1)), [model.tokens("a picture")]
    model.match(features, tokens)
    model.embed_images(features)
    model.embed_texts(tokens)


def decode_s(lane: DecodingLane) -> float:
    """Seconds of one decode step of as many rows as there are slots, or as time allows."""
    model, slots = lane.model, lane.slots
    began, seconds = time.perf_counter(), 1.0
    for rows in row_counts(slots.rows):
        enter(model, slots, rows)
        seconds = best_time(model, partial(lane.decode, 0, rows))
        slots.drop(range(rows))
        if model.device.type == "cpu" and time.perf_counter() - began > PATIENCE_S:
            break
    return seconds


def pass_through(model: Generator, slots: SlotCache, rows: int) -> None:
    enter(model, slots, rows)
    slots.drop(range(rows))


def enter(model: Generator, slots: SlotCache, rows: int) -> None:
    """Encode grey images, as many as the timing asks for, and prefill `rows` rows of them."""
    images = min(rows, MANY)
    features = model.encode(grey(model, images))
    features = features.repeat(-(-rows // images), *([1] * (features.dim() - 1)))[:rows]
    task = "caption" if "caption" in model.tasks else "vqa"
    prompt = model.prompt(Request("warm-up", task, "", None, "what is this?"))
    model.prefill(features, [prompt] * rows, slots)


def grey(model: Vision, images: int) -> torch.Tensor:
    """Plain pictures: uint8 (images, size, size, 3)."""
    size = model.image_size
    return torch.full((images, size, size, 3), 128, dtype=torch.uint8, device=model.device)


def row_counts(max_rows: int) -> list[int]:
    """Every bucket that a graph may have: 1, 2, 4, ... and `max_rows` itself."""
    return sorted({row_bucket(rows, max_rows) for rows in range(1, max_rows + 1)})


def best_time(model: Vision, work: Callable[[], object]) -> float:
    """The shortest of a few runs, in seconds; the first counts only where it takes long."""
    began = time.perf_counter()
    best = timed(model, work)
    if best < PATIENCE_S:
        best = float("inf")
        for _ in range(REPEATS):
            best = min(best, timed(model, work))
            if time.perf_counter() - began > PATIENCE_S:
                break
    return best


def timed(model: Vision, work: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - started
