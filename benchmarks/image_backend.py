"""`python -m benchmarks.image_backend`: the image backends `pil` and `torchvision` of a worker.

(1) Decoding of one JPEG of 640 x 480 for models of several sides: processor time, and the values
    that differ.
(2) A worker with each backend, demo model: seconds until it is ready, memory of its bulk consumer,
    processor time of consumer and engine for an image of a batch, captions a second (in turn,
    ratios of each round), a lone job, and the captions that differ.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.pictures import HEIGHT, WIDTH, pictures
from benchmarks.processes import cpu_s, process_of
from benchmarks.stack import SETTINGS, one_job, through_stack
from benchmarks.timing import note, timed
from config.settings import DEMO_MODEL
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from worker.engine.frame import ImageBackend
from worker.images.decoder import Decoder

BACKENDS: Final[tuple[ImageBackend, ...]] = ("pil", "torchvision")
BICUBIC: Final = 3
SIDES: Final = (64, 224, 384)


@dataclass
class Figures:
    """The measurements of a worker."""

    client: Client
    worker: Worker
    ready_s: float
    memory_mib: float
    #: Of the bulk consumer and of the engine.
    cpu_s: list[tuple[float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    lone_s: list[float] = field(default_factory=list)


def main() -> None:
    """Print two tables."""
    parser = ArgumentParser(prog="python -m benchmarks.image_backend", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    note(f"drawing {options.images} pictures of {WIDTH} x {HEIGHT}")
    images = pictures(options.images, seed=7)
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}\n")
    torch.set_num_threads(1)
    decoding(images[:64])
    workers(images, options.rounds)


def decoding(images: Sequence[bytes]) -> None:
    """Print the processor time of an image by each backend."""
    print("| side | pil | torchvision | values that differ | at most by |")
    print("|---:|---:|---:|---:|---:|")
    for side in SIDES:
        pixels, each_ms = {}, {}
        for backend in BACKENDS:
            decoder = Decoder(side, BICUBIC, 10**9, backend=backend)
            decoder.decode(images[0])
            started = time.process_time()
            decoded = [decoder.decode(image) for image in images]
            each_ms[backend] = (time.process_time() - started) / len(images) * 1000
            pixels[backend] = np.frombuffer(b"".join(decoded), np.uint8).astype(np.int16)
        distance = np.abs(pixels["pil"] - pixels["torchvision"])
        times = " | ".join(f"{each_ms[backend]:.2f} ms" for backend in BACKENDS)
        print(f"| {side} | {times} | {(distance > 0).mean():.3%} | {distance.max()} |")


def workers(images: Sequence[bytes], rounds: int) -> None:
    """Print the figures of a worker with each backend."""
    with ExitStack() as stack:
        figures = {}
        for backend in BACKENDS:
            url = stack.enter_context(running_redis())
            settings = {
                **SETTINGS,
                "BLIPLINE_MODEL": str(DEMO_MODEL),
                "BLIPLINE_IMAGE_BACKEND": backend,
            }
            started = time.perf_counter()
            worker = stack.enter_context(running_worker(url, settings, quiet=True))
            ready_s = time.perf_counter() - started
            client = stack.enter_context(Client(url))
            through_stack(client, images[:256])  # warm
            memory_mib = private_mib(process_of(worker, "bulk"))
            figures[backend] = Figures(client, worker, ready_s, memory_mib)
        for number in range(rounds):
            note(f"round {number + 1} of {rounds}")
            for each in figures.values():
                one_round(each, images)
        report(figures, len(images))


def one_round(figures: Figures, images: Sequence[bytes]) -> None:
    """Caption the images as a batch, and some of them as lone jobs."""
    before = processor_times(figures.worker)
    figures.captions, seconds = timed(lambda: through_stack(figures.client, images))
    consumer_s, engine_s = np.subtract(processor_times(figures.worker), before) / len(images)
    figures.cpu_s.append((consumer_s, engine_s))
    figures.seconds.append(seconds)
    figures.lone_s += [timed(partial(one_job, figures.client, image))[1] for image in images[:16]]


def processor_times(worker: Worker) -> tuple[float, float]:
    """Return the processor time of the bulk consumer and of the engine."""
    return cpu_s(process_of(worker, "bulk")), cpu_s(process_of(worker, "engine"))


def report(figures: dict[ImageBackend, Figures], images: int) -> None:
    """Print the second table."""
    print(
        "\n| backend | ready after | bulk consumer, private | its CPU, an image | the engine's |"
        " captions/s | lone job |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for backend, each in figures.items():
        print(
            f"| {backend} | {each.ready_s:.1f} s | {each.memory_mib:.0f} MiB |"
            f" {statistics.median(cpu for cpu, _ in each.cpu_s) * 1000:.2f} ms |"
            f" {statistics.median(cpu for _, cpu in each.cpu_s) * 1000:.2f} ms |"
            f" {images / statistics.median(each.seconds):.0f} |"
            f" {statistics.median(each.lone_s) * 1000:.1f} ms |"
        )
    pil, torchvision = (figures[backend] for backend in BACKENDS)
    ratios = sorted(a / b for a, b in zip(pil.seconds, torchvision.seconds, strict=True))
    differing = sum(a != b for a, b in zip(pil.captions, torchvision.captions, strict=True))
    print(
        f"\ntorchvision: {statistics.median(ratios):.2f} x the rate of pil ({ratios[0]:.2f} to"
        f" {ratios[-1]:.2f}); captions that differ: {differing} of {images}"
    )


def private_mib(process: int) -> float:
    """Return the memory that a process shares with no other one."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    main()
