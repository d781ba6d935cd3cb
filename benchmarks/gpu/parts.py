"""The individual measurements of `benchmarks.gpu` on one model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.gpu.model import NumberTokenizer, pictures
from benchmarks.gpu.roofline import Peak
from worker.engine.engine import Engine
from worker.engine.graphs import GraphedDecode
from worker.engine.request import Answer, GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.engine.warmup import warm_up
from worker.models.blip2 import Blip2

#: Tokens of every caption.
NEW_TOKENS = 12
#: Batches of a run, and its minimum and maximum images.
BATCHES, MIN_IMAGES, MAX_IMAGES = 4, 8, 512
#: Whole runs, of which the median counts; maximum repeats of a single part, and seconds for them.
ROUNDS, REPEATS, REPEAT_S = 3, 9, 1.0


@dataclass
class Speed:
    """Speed of whole captions. `texts` are in the order of the images."""

    images_per_s: float
    texts: list[str] = field(repr=False)
    #: Peak of the device's memory; 0 on a CPU.
    peak_bytes: int = 0
    #: Engine only: seconds of the warm-up, of an isolated decode step, and of a decode step in the
    #: loop (with sampling and the host's work).
    warm_s: float = 0.0
    decode_s: float = 0.0
    step_s: float = 0.0
    #: Kind of the decode steps: "plain", a number of "graphs", or "graphs disabled".
    decoding: str = "plain"

    def __str__(self) -> str:
        text = f"{self.images_per_s:.1f} images/s, {len(set(self.texts))} texts"
        if self.peak_bytes:
            text += f", {self.peak_bytes / 2**30:.2f} GiB peak"
        if self.warm_s:
            steps = (
                f"{self.decode_s * 1e3:.2f} ms a decode step, {self.step_s * 1e3:.2f} in the loop"
            )
            text += f"; {self.decoding}, {steps}, warm after {self.warm_s:.1f} s"
        return text


class Parts:
    """Measurements of one model."""

    def __init__(self, model: Blip2) -> None:
        self.model, self.device = model, model.device
        self.images = pictures(MAX_IMAGES, model.image_size)

    def engine(self, rows: int, graphs: bool) -> Speed:
        """Measure the engine at a row count; every image is sent as bytes."""
        reset_peak(self.device)
        started = time.perf_counter()
        engine = Engine(
            self.model, max_rows=rows, reserved_rows=0, feature_bytes=0, cuda_graphs=graphs
        )
        warm_up(engine)
        warm_s = time.perf_counter() - started
        pixels = [image.numpy().tobytes() for image in self.images[: images_for(rows)]]
        steps: list[float] = []
        texts, run_s = self._median(lambda: captions(engine, pixels, steps))
        return Speed(
            len(pixels) / run_s,
            texts,
            peak_bytes(self.device),
            warm_s,
            self._decode_s(engine, rows),
            statistics.median(steps) if steps else 0.0,
            decoding_kind(engine),
        )

    def generate(self, rows: int) -> Speed:
        """Measure transformers' own `generate`, eager, on pixels on the device."""
        reset_peak(self.device)
        images = self.images[: images_for(rows)]
        dtype = self.model.network.language_projection.weight.dtype
        pixels = torch.cat(
            [self.model.normalize(part).to(dtype) for part in torch.split(images, 32)]
        )
        batches = torch.split(pixels, rows)
        texts, run_s = self._median(
            lambda: [text for batch in batches for text in self._texts(batch)]
        )
        return Speed(len(images) / run_s, texts, peak_bytes(self.device))

    @torch.inference_mode()
    def _texts(self, pixels: Tensor) -> list[str]:
        tokens = self.model.network.generate(
            pixel_values=pixels,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        return [NumberTokenizer().decode(row) for row in tokens[:, -NEW_TOKENS:].tolist()]

    def _median(self, work: Callable[[], list[str]]) -> tuple[list[str], float]:
        work()
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            texts = work()
            synchronize(self.device)
            seconds.append(time.perf_counter() - started)
        return texts, statistics.median(seconds)

    @torch.inference_mode()
    def encode_s(self, images: int) -> tuple[float, float]:
        """Return the seconds of encoding a batch, and of only its vision encoder."""
        batch = self.images[:images].to(self.device)
        dtype = self.model.network.vision_model.embeddings.patch_embedding.weight.dtype
        pixels = self.model.normalize(batch).to(dtype)
        whole_s = part_s(self.device, lambda: self.model.encode(batch))
        vision_s = part_s(self.device, lambda: self.model.network.vision_model(pixel_values=pixels))
        return whole_s, vision_s

    def prefill_s(self, rows: int) -> float:
        """Return the seconds of a prefill of captions: image tokens and one more."""
        slots = self.model.decoder.new_slots(rows)

        def prefill() -> None:
            self._add_rows(slots, rows)
            slots.drop(range(rows))

        return part_s(self.device, prefill)

    def _decode_s(self, engine: Engine, rows: int) -> float:
        lane = engine.decoding
        assert lane is not None
        self._add_rows(lane.slots, rows)
        with torch.inference_mode():
            return part_s(self.device, lambda: lane.decode(0, rows))

    @torch.inference_mode()
    def _add_rows(self, slots: SlotCache, rows: int) -> None:
        """Prefill captions after the active rows."""
        width = self.model.network.config.text_config.hidden_size
        dtype = self.model.network.language_projection.weight.dtype
        features = torch.randn(1, 1, width, device=self.device, dtype=dtype)
        prompt = self.model.prompt(Request(0, "caption", "", None))
        queries = int(self.model.network.config.num_query_tokens)
        self.model.decoder.prefill(features.expand(rows, queries, width), [prompt] * rows, slots)


def captions(engine: Engine, pixels: Sequence[bytes], steps: list[float]) -> list[str]:
    """Caption all images; append the seconds of steps without a prefill to `steps`."""
    options = GenerationOptions(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    for number, image in enumerate(pixels):
        engine.add(Request(number, "caption", str(number), image, "", options))
    answers: dict[int | str, Answer] = {}
    while not engine.idle:
        encoded, started = engine.encoders[0].images, time.perf_counter()
        answers.update({answer.id: answer for answer in engine.step()})
        if engine.encoders[0].images == encoded:
            steps.append(time.perf_counter() - started)
    failed = [answer for answer in answers.values() if answer.error_code is not None]
    if failed:
        raise RuntimeError(f"{len(failed)} rows failed: {failed[0].error_message}")
    return [answers[number].text for number in range(len(pixels))]


def decoding_kind(engine: Engine) -> str:
    """Describe how decode steps ran, with the number of CUDA graphs."""
    decode = engine.decoding and engine.decoding.decode
    if not isinstance(decode, GraphedDecode):
        return "plain"
    return f"{len(decode._graphs)} graphs" if decode._usable else "graphs disabled"


def images_for(rows: int) -> int:
    """Return the images of a run: whole batches of `rows`."""
    return rows * max(1, min(MAX_IMAGES // rows, max(BATCHES, MIN_IMAGES // rows)))


def agreement(expected: Sequence[str], actual: Sequence[str]) -> tuple[float, float]:
    """Return the share of equal texts, and that of tokens before the first difference."""
    same = 0
    for text, other_text in zip(expected, actual, strict=True):
        for a, b in zip(text.split(), other_text.split(), strict=True):
            if a != b:
                break
            same += 1
    equal = sum(a == b for a, b in zip(expected, actual, strict=True))
    return equal / len(expected), same / (len(expected) * NEW_TOKENS)


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Measure the throughput of a large matrix product and a large copy."""
    cuda = device.type == "cuda"
    side, elements = (8192, 2**30) if cuda else (256, 2**22)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    source = torch.empty(elements, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = part_s(device, lambda: a @ b)
    copy_s = part_s(device, lambda: target.copy_(source))
    return Peak(2 * side**3 / product_s, 2 * elements / copy_s)


def part_s(device: torch.device, work: Callable[[], object]) -> float:
    """Return the median seconds of several runs."""
    work()
    synchronize(device)
    started = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < REPEATS and time.perf_counter() - started < REPEAT_S:
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Release free memory and reset the peak."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Return the peak of tensors' bytes; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
