"""What JPEG's draft mode saves, and what it changes: `python -m benchmarks.jpeg_draft`.

Decoding and resizing of drawn scenes at several sizes, exactly and at one and two times the model's
side; the CPU time of an image, the difference of the pixels, and how many captions change.
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
    parser = ArgumentParser(prog="python -m benchmarks.jpeg_draft", description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="of each size")
    images = parser.parse_args().images
    torch.set_num_threads(1)
    model = as_generator(load(str(DEMO_MODEL), "fp32", "cpu"))
    assert model is not None
    print("| JPEG | draft | CPU ms an image | mean difference (levels) | most | captions changed |")
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
            mean, most = difference(exact[0], pixels)
            changed = sum(a != b for a, b in zip(exact[1], texts, strict=True))
            row = (
                f"{size[0]} x {size[1]}",
                draft or "off",
                f"{each_ms:.1f}",
                f"{mean:.2f}",
                most,
                f"{changed} of {images}",
            )
            print(f"| {' | '.join(map(str, row))} |")


def jpegs(count: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Scenes that no training has seen."""
    for number in range(count):
        picture = draw(random_scene(random.Random(f"draft {number}")), *size)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        yield buffer.getvalue()


def decode(encoded: list[bytes], decoder: Decoder) -> tuple[list[bytes], float]:
    """Pixels, and the milliseconds of CPU that each took."""
    decoder.decode(encoded[0])
    began = time.process_time()
    pixels = [decoder.decode(one) for one in encoded]
    return pixels, (time.process_time() - began) / len(encoded) * 1000


def captions(model: Generator, pixels: list[bytes]) -> list[str]:
    """What the model says of each."""
    engine = Engine(model)
    for number, one in enumerate(pixels):
        engine.add(Request(number, "caption", str(number), one))
    texts = {}
    while not engine.idle:
        texts.update({answer.id: answer.text for answer in engine.step()})
    return [texts[number] for number in range(len(pixels))]


def difference(one: list[bytes], other: list[bytes]) -> tuple[float, int]:
    """Mean and largest difference of two lists of pixels."""
    pair = (np.frombuffer(b"".join(each), np.uint8).astype(np.int16) for each in (one, other))
    distance = np.abs(next(pair) - next(pair))
    return float(distance.mean()), int(distance.max())


if __name__ == "__main__":
    main()
