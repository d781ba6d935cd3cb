"""The single measurements of `benchmarks.gpu`. Each needs a model and gives figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.gpu.model import Numbers, pictures
from benchmarks.gpu.roofline import Peak
from worker.engine.engine import Engine
from worker.engine.graphs import GraphedDecode
from worker.engine.request import Answer, GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.engine.warmup import warm_up
from worker.models.blip2 import Blip2

#: Tokens of a caption, forced.
NEW_TOKENS = 12
#: Images of a run: so many batches, within bounds.
BATCHES, FEWEST, MOST = 4, 8, 512
#: Whole runs, of which the median counts; single parts are repeated for at most so long.
ROUNDS, REPEATS, PATIENCE_S = 3, 9, 1.0


@dataclass
class Speed:
    """Of whole captions. `texts` are in the order of the images."""

    images_per_s: float
    texts: list[str] = field(repr=False)
    #: Of the device, at most while this ran; 0 on a CPU.
    peak_bytes: int = 0
    #: The engine alone: seconds to warm up, of a decode step by itself, and of one in the loop
    #: (with sampling, and all that the host does).
    warm_s: float = 0.0
    decode_s: float = 0.0
    step_s: float = 0.0
    #: How the decode steps ran: "plain", so many "graphs", or that they were given up.
    decoding: str = "plain"

    def __str__(self) -> str:
        text = f"{self.images_per_s:.1f} images/s, {len(set(self.texts))} texts"
        if self.peak_bytes:
            text += f", {self.peak_bytes / 2**30:.2f} GiB at most"
        if self.warm_s:
            steps = (
                f"{self.decode_s * 1e3:.2f} ms a decode step, {self.step_s * 1e3:.2f} in the loop"
            )
            text += f"; {self.decoding}, {steps}, warm after {self.warm_s:.1f} s"
        return text


class Parts:
    """Measures one model."""

    def __init__(self, model: Blip2) -> None:
        self.model, self.device = model, model.device
        self.images = pictures(MOST, model.image_size)

    def engine(self, rows: int, graphs: bool) -> Speed:
        """The engine at so many rows, every image sent as bytes."""
        reset_peak(self.device)
        began = time.perf_counter()
        engine = Engine(
            self.model, max_rows=rows, reserved_rows=0, feature_bytes=0, cuda_graphs=graphs
        )
        warm_up(engine)
        warm_s = time.perf_counter() - began
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
            how_decoded(engine),
        )

    def generate(self, rows: int) -> Speed:
        """transformers' own `generate`, eager, on pixels that lie on the device already."""
        reset_peak(self.device)
        images = self.images[: images_for(rows)]
        dtype = self.model.network.language_projection.weight.dtype
        pixels = torch.cat([self.model.pixels(part).to(dtype) for part in torch.split(images, 32)])
        batches = torch.split(pixels, rows)
        texts, run_s = self._median(lambda: [text for one in batches for text in self._texts(one)])
        return Speed(len(images) / run_s, texts, peak_bytes(self.device))

    @torch.inference_mode()
    def _texts(self, pixels: Tensor) -> list[str]:
        tokens = self.model.network.generate(
            pixel_values=pixels,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        return [Numbers().decode(row) for row in tokens[:, -NEW_TOKENS:].tolist()]

    def _median(self, work: Callable[[], list[str]]) -> tuple[list[str], float]:
        work()
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            texts = work()
            synchronize(self.device)
            seconds.append(time.perf_counter() - began)
        return texts, statistics.median(seconds)

    @torch.inference_mode()
    def encode_s(self, images: int) -> tuple[float, float]:
        """A batch of images through everything, and through the vision encoder alone."""
        batch = self.images[:images].to(self.device)
        dtype = self.model.network.vision_model.embeddings.patch_embedding.weight.dtype
        pixels = self.model.pixels(batch).to(dtype)
        whole_s = part_s(self.device, lambda: self.model.encode(batch))
        vision_s = part_s(self.device, lambda: self.model.network.vision_model(pixel_values=pixels))
        return whole_s, vision_s

    def prefill_s(self, rows: int) -> float:
        """Rows of a caption's prompt: the image's tokens and one more."""
        slots = self.model.new_slots(rows)

        def once() -> None:
            self._enter(slots, rows)
            slots.drop(range(rows))

        return part_s(self.device, once)

    def _decode_s(self, engine: Engine, rows: int) -> float:
        lane = engine.decoding
        assert lane is not None
        self._enter(lane.slots, rows)
        with torch.inference_mode():
            return part_s(self.device, lambda: lane.decode(0, rows))

    @torch.inference_mode()
    def _enter(self, slots: SlotCache, rows: int) -> None:
        """Rows of a caption's prompt, behind the rows that are there."""
        width = self.model.network.config.text_config.hidden_size
        dtype = self.model.network.language_projection.weight.dtype
        features = torch.randn(1, 1, width, device=self.device, dtype=dtype)
        prompt = self.model.prompt(Request(0, "caption", "", None))
        queries = int(self.model.network.config.num_query_tokens)
        self.model.prefill(features.expand(rows, queries, width), [prompt] * rows, slots)


def captions(engine: Engine, pixels: Sequence[bytes], steps: list[float]) -> list[str]:
    """Texts of all images. `steps` gets the seconds of those steps in which nothing joined."""
    options = GenerationOptions(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    for number, one in enumerate(pixels):
        engine.add(Request(number, "caption", str(number), one, "", options))
    answers: dict[int | str, Answer] = {}
    while not engine.idle:
        encoded, began = engine.encoders[0].images, time.perf_counter()
        answers.update({answer.id: answer for answer in engine.step()})
        if engine.encoders[0].images == encoded:
            steps.append(time.perf_counter() - began)
    failed = [answer for answer in answers.values() if answer.error_code is not None]
    if failed:
        raise RuntimeError(f"{len(failed)} rows failed: {failed[0].error_message}")
    return [answers[number].text for number in range(len(pixels))]


def how_decoded(engine: Engine) -> str:
    """Whether graphs were really replayed."""
    decode = engine.decoding and engine.decoding.decode
    if not isinstance(decode, GraphedDecode):
        return "plain"
    return f"{len(decode._graphs)} graphs" if decode._usable else "graphs given up"


def images_for(rows: int) -> int:
    """Whole batches."""
    return rows * max(1, min(MOST // rows, max(BATCHES, FEWEST // rows)))


def agreement(expected: Sequence[str], got: Sequence[str]) -> tuple[float, float]:
    """The share of texts that are equal, and that of tokens before the first difference."""
    same = 0
    for one, other in zip(expected, got, strict=True):
        for a, b in zip(one.split(), other.split(), strict=True):
            if a != b:
                break
            same += 1
    equal = sum(a == b for a, b in zip(expected, got, strict=True))
    return equal / len(expected), same / (len(expected) * NEW_TOKENS)


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """What one large product and one large copy reach."""
    cuda = device.type == "cuda"
    side, elements = (8192, 2**30) if cuda else (256, 2**22)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    source = torch.empty(elements, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = part_s(device, lambda: left @ right)
    copy_s = part_s(device, lambda: target.copy_(source))
    return Peak(2 * side**3 / product_s, 2 * elements / copy_s)


def part_s(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of one run, the median of several."""
    work()
    synchronize(device)
    began = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < REPEATS and time.perf_counter() - began < PATIENCE_S:
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Give back what is free, and count from here."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Bytes that tensors took at most; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
