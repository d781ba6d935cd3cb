"""Warm-up: one run of every kernel before the first request, and measurement of a step's cost.

The measurements set two limits of admission: how long rows wait to be admitted together, and how
many images are encoded in one step, so that a step stays short even if an image takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from worker.engine.decoding import DecodingLane
from worker.engine.encoder import MAX_ENCODE_BATCH, Encoder
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.generating import GeneratingLane
from worker.engine.graphs import row_bucket
from worker.engine.halving import OUT_OF_MEMORY, failure_of
from worker.engine.matching import MatchingLane
from worker.engine.model import Generator, Model, Vision
from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache

#: Images in a warm-up run: enough to separate the fixed cost from the cost per image.
TIMED_IMAGES = 8
REPEATS = 5
#: Seconds after which a measurement is no longer repeated.
MAX_TIMING_S = 1.0
#: Maximum seconds that encoding may delay the active rows. With less, rows would join in twos and
#: threes if an image takes half a second, and steps of few rows cost as much as full ones.
MAX_ENCODE_S = 4.0
#: Maximum seconds of a group's first step, in which cancellations and other lanes wait.
MAX_GROUP_S = 8.0
#: Maximum fixed cost of a prefill, in decode steps. No device has exceeded 3; on a machine that is
#: busy during the start the measurement can be far too high, and rows would then wait forever.
MAX_PREFILL_STEPS = 4.0


@torch.inference_mode()
def warm_up(engine: Engine) -> None:
    """Warm up an idle engine. Raises LoadError if its rows do not fit the memory."""
    with rows_must_fit(engine.models[0]):
        if engine.generating is not None:
            limit_group(engine.generating)
        for encoder in engine.encoders:
            limit_encode_batch(encoder)
        if engine.decoding is not None and engine.beams is not None:
            warm_decoding(engine.decoding)
            engine.beams.max_images = engine.decoding.scheduler.max_images
        if engine.matching is not None:
            warm_matching(engine.matching)


def limit_group(lane: GeneratingLane) -> None:
    """Limit the rows of a group to those whose first token takes MAX_GROUP_S."""
    model = lane.model
    side = model.image_size
    image = b"P6 %d %d 255\n" % (side, side) + bytes([128]) * (3 * side * side)
    requests = [Request("warm-up", "caption", "", image)]
    options = GenerationOptions(max_new_tokens=1)

    def first_token() -> None:
        model.generate(model.collate(requests), options, lambda: False)

    seconds = compute_time(model, first_token)
    if seconds < MAX_TIMING_S:
        seconds = compute_time(model, first_token)  # the first run also prepares kernels
    lane.group_rows = max(1, min(lane.max_rows, int(MAX_GROUP_S / seconds)))


def compute_time(model: Model, work: Callable[[], object]) -> float:
    """Return the seconds of a run on an idle device: other programs on a CPU do not count."""
    if model.device.type != "cpu":
        return run_time(model, work)
    started = time.process_time()
    work()
    return (time.process_time() - started) / torch.get_num_threads()


@contextmanager
def rows_must_fit(model: Model) -> Iterator[None]:
    """Raise LoadError if the memory of the model's rows cannot be allocated in this block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if failure_of(error).code != OUT_OF_MEMORY:
            raise
        raise LoadError(
            f"The rows of {model.name!r} do not fit the memory of {model.device};"
            " use fewer rows or a smaller precision."
        ) from error


def limit_encode_batch(encoder: Encoder) -> None:
    """Limit the images in one run of the vision encoder to those encoded in MAX_ENCODE_S."""
    model = encoder.model
    image_s = best_time(model, lambda: model.encode(grey_images(model, 1)))
    encoder.batches.limit = max(1, min(MAX_ENCODE_BATCH, int(MAX_ENCODE_S / image_s)))


def warm_decoding(lane: DecodingLane) -> None:
    """Measure the fixed cost of encoding and prefilling a forward batch, in full decode steps.

    The times of one image and of several define a line, whose value at zero images is the fixed
    cost. Decode steps run at 1, 2, 4, ... rows, so that the kernels of each size are ready.
    """
    model, slots, scheduler = lane.model, lane.slots, lane.scheduler
    if lane.encoder.batches.limit < MAX_ENCODE_BATCH:
        scheduler.max_images = lane.encoder.batches.limit
    single_s = image_s = best_time(model, lambda: encode_and_prefill(model, slots, 1))
    images = min(TIMED_IMAGES, slots.rows, lane.encoder.batches.limit)
    if images > 1:
        total_s = best_time(model, lambda: encode_and_prefill(model, slots, images))
        image_s = (total_s - single_s) / (images - 1)
    step_s = time_decode(lane)
    scheduler.prefill_steps = min(MAX_PREFILL_STEPS, max(0.0, single_s - image_s) / step_s)


def warm_matching(lane: MatchingLane) -> None:
    """Run each forward pass of the matcher once."""
    model = lane.model
    lane.scheduler.max_images = lane.encoder.batches.limit
    features, tokens = model.encode(grey_images(model, 1)), [model.tokens("a picture")]
    model.match(features, tokens)
    model.embed_images(features)
    model.embed_texts(tokens)


def time_decode(lane: DecodingLane) -> float:
    """Return the seconds of a decode step of all slots, or of as many rows as time allows."""
    model, slots = lane.model, lane.slots
    started, seconds = time.perf_counter(), 1.0
    for rows in row_counts(slots.rows):
        add_rows(model, slots, rows)
        seconds = best_time(model, partial(lane.decode, 0, rows))
        slots.drop(range(rows))
        if model.device.type == "cpu" and time.perf_counter() - started > MAX_TIMING_S:
            break
    return seconds


def encode_and_prefill(model: Generator, slots: SlotCache, rows: int) -> None:
    """Encode and prefill rows, then free their slots."""
    add_rows(model, slots, rows)
    slots.drop(range(rows))


def add_rows(model: Generator, slots: SlotCache, rows: int) -> None:
    """Prefill `rows` rows of grey images, of which at most TIMED_IMAGES are encoded."""
    images = min(rows, TIMED_IMAGES)
    features = model.encode(grey_images(model, images))
    features = features.repeat(-(-rows // images), *([1] * (features.dim() - 1)))[:rows]
    task = "caption" if "caption" in model.tasks else "vqa"
    prompt = model.prompt(Request("warm-up", task, "", None, "what is this?"))
    prompts = [prompt] * rows
    model.decoder.prefill(model.condition(features, prompts), prompts, slots)


def grey_images(model: Vision, images: int) -> torch.Tensor:
    """Return grey images: uint8 (images, height, width, 3)."""
    shape = (images, model.frame.height, model.frame.width, 3)
    return torch.full(shape, 128, dtype=torch.uint8, device=model.device)


def row_counts(max_rows: int) -> list[int]:
    """Return the row counts of all CUDA graph buckets: 1, 2, 4, ... and `max_rows` itself."""
    return sorted({row_bucket(rows, max_rows) for rows in range(1, max_rows + 1)})


def best_time(model: Model, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few runs; the first counts only if it is slow."""
    started = time.perf_counter()
    best = run_time(model, work)
    if best < MAX_TIMING_S:
        best = float("inf")
        for _ in range(REPEATS):
            best = min(best, run_time(model, work))
            if time.perf_counter() - started > MAX_TIMING_S:
                break
    return best


def run_time(model: Model, work: Callable[[], object]) -> float:
    """Return the seconds of one run."""
    started = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - started
