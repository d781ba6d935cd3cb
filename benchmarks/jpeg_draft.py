"""`python -m benchmarks.jpeg_draft`: savings and effects of JPEG's draft mode.

Drawn scenes of several sizes are decoded and resized, exactly and at one and two times the model's
side. Prints the CPU time per image, the difference of the pixels, and the captions that change.
"""

from __future__ import annotations

import io
import random
import time
from argparse import ArgumentParser
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.pictures import HEIGHT, WIDTH
from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from worker.engine.engine import Engine
from worker.engine.model import Generator, as_generator
from worker.engine.request import Request
from worker.images.decoder import Decoder
from worker.models.registry import load

SIZES = ((WIDTH, HEIGHT), (1600, 1200), (4000, 3000))
DRAFTS = (0, 1, 2)
QUALITY = 90


def main() -> None:
    """Print the table."""
    parser = ArgumentParser(prog="python -m benchmarks.jpeg_draft", description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="number of images of each size")
    images = parser.parse_args().images
    torch.set_num_threads(1)
    model = as_generator(load(str(DEMO_MODEL), "fp32", "cpu"))
    assert model is not None
    print("| JPEG | draft | CPU ms per image | mean difference (levels) | max | captions changed |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        exact: tuple[list[bytes], list[str]] | None = None
        encoded = list(jpegs(images, size))
        for draft in DRAFTS:
            pixels, each_ms = decode(
                encoded, Decoder(model.image_size, model.resample, 10**9, draft)
            )
            texts = captions(model, pixels)
            exact = exact or (pixels, texts)
            mean, maximum = difference(exact[0], pixels)
            changed = sum(a != b for a, b in zip(exact[1], texts, strict=True))
            row = (
                f"{size[0]} x {size[1]}",
                draft or "off",
                f"{each_ms:.1f}",
                f"{mean:.2f}",
                maximum,
                f"{changed} of {images}",
            )
            print(f"| {' | '.join(map(str, row))} |")


def jpegs(count: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Yield encoded scenes that are not in the training data."""
    for number in range(count):
        picture = draw(random_scene(random.Random(f"draft {number}")), *size)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        yield buffer.getvalue()


def decode(encoded: list[bytes], decoder: Decoder) -> tuple[list[bytes], float]:
    """Decode images; return their pixels and the milliseconds of CPU time of each."""
    decoder.decode(encoded[0])
    started = time.process_time()
    pixels = [decoder.decode(image) for image in encoded]
    return pixels, (time.process_time() - started) / len(encoded) * 1000


def captions(model: Generator, pixels: list[bytes]) -> list[str]:
    """Return a caption of each image."""
    engine = Engine(model)
    for number, image in enumerate(pixels):
        engine.add(Request(number, "caption", str(number), image))
    texts = {}
    while not engine.idle:
        texts.update({answer.id: answer.text for answer in engine.step()})
    return [texts[number] for number in range(len(pixels))]


def difference(first: list[bytes], second: list[bytes]) -> tuple[float, int]:
    """Return the mean and the maximum difference of two lists of pixels."""
    a, b = (np.frombuffer(b"".join(pixels), np.uint8) for pixels in (first, second))
    distance = np.abs(a.astype(np.int16) - b.astype(np.int16))
    return float(distance.mean()), int(distance.max())


if __name__ == "__main__":
    main()
