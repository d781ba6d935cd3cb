"""`python -m benchmarks.engine`: in-flight batching against transformers' `generate`.

The engine receives requests directly; `generate` runs on static batches of its best size in the
same run. Neither side decodes JPEGs. The lengths of answers are fixed, so that both do the same
work, and all texts are compared. With one thread, CPU time is measured, on which other load has
little effect; with more threads, wall-clock time.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from benchmarks import checkpoint
from benchmarks.inflight import InFlight
from benchmarks.static import Static
from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene

QUESTIONS = (
    "how many shapes are there?",
    "what color is the background?",
    "what shape is on the left?",
    "is there a red circle?",
    "what is on the left?",
    "what color is the circle?",
    "what shape is red?",
    "is there a blue star?",
)
#: New tokens of a row.
UNIFORM, SHORTEST, LONGEST = 10, 2, 30

#: Candidates for the best static batch size, and the default number of images.
DEMO_SIZES, DEMO_IMAGES = (8, 16, 32, 64), 480
VITB_SIZES, VITB_IMAGES = (8, 16), 32
#: Seconds below which a run is repeated when the best size is determined.
SHORT_S = 2.0


class Bench:
    """A comparison that prints table rows and counts answers that differ."""

    def __init__(self, model: str, rounds: int, clock: Callable[[], float]) -> None:
        self.model, self.rounds, self.clock = model, rounds, clock
        self.differing = 0

    def compare(
        self,
        work: str,
        static: Callable[[int], list[str]],
        engine: Callable[[], list[str]],
        sizes: Sequence[int],
    ) -> None:
        """Compare `static`, which takes a batch size, with `engine`; both return the same texts."""
        size = sizes[0]
        if len(sizes) > 1:
            size = min(sizes, key=lambda candidate: self.best_s(static, candidate))
        pairs = []
        for _ in range(self.rounds):
            expected, static_s = self.seconds(lambda: static(size))
            texts, engine_s = self.seconds(engine)
            self.differing += sum(a != b for a, b in zip(expected, texts, strict=True))
            pairs.append((len(texts) / static_s, len(texts) / engine_s))
        ratios = sorted(engine_rate / static_rate for static_rate, engine_rate in pairs)
        static_rate, engine_rate = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        print(
            f"| {self.model} | {work} | {static_rate:.1f} | {size} | {engine_rate:.1f} |"
            f" **{statistics.median(ratios):.2f}** | {ratios[0]:.2f}-{ratios[-1]:.2f} |",
            flush=True,
        )

    def best_s(self, static: Callable[[int], list[str]], size: int) -> float:
        """Return the seconds at a batch size, the better of two runs if it is short."""
        first_s = self.seconds(lambda: static(size))[1]
        return first_s if first_s > SHORT_S else min(first_s, self.seconds(lambda: static(size))[1])

    def seconds(self, work: Callable[[], list[str]]) -> tuple[list[str], float]:
        """Return the result of some work and its seconds."""
        started = self.clock()
        result = work()
        return result, self.clock() - started


def main() -> int:
    """Print a table; exit code 1 if any answer differs."""
    options = _options()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"{processor()}, {os.cpu_count()} cores; torch {torch.__version__}, fp32, ", end="")
    print(f"{options.threads} thread{'s' * (options.threads > 1)}; {options.rounds} rounds\n")
    print("| model | work | `generate`, rows/s | at batch | engine, rows/s | ratio | range |")
    print("|---|---|---|---|---|---|---|", flush=True)
    differing = 0
    if options.model in ("demo", "all"):
        bench = Bench("demo", options.rounds, clock)
        measure(bench, str(DEMO_MODEL), options.images or DEMO_IMAGES, DEMO_SIZES)
        differing += bench.differing
    if options.model in ("vitb", "all"):
        bench = Bench("ViT-B", options.rounds, clock)
        with tempfile.TemporaryDirectory() as directory:
            checkpoint.write(Path(directory))
            measure(bench, directory, options.images or VITB_IMAGES, VITB_SIZES)
        differing += bench.differing
    print(f"\nanswers that differ: {differing}")
    return 1 if differing else 0


def measure(bench: Bench, directory: str, images: int, sizes: Sequence[int]) -> None:
    """Run all comparisons on one model."""
    static, engine = Static(directory), InFlight(directory)
    pictures = draw_scenes(images, engine.image_size)
    pixels = static.pixels(pictures)
    features = torch.cat([static.features(part) for part in torch.split(pixels, sizes[0])])
    for kind, lengths in kinds_of_lengths(images):
        bench.compare(
            f"captions of {kind} tokens",
            lambda size, lengths=lengths: static.captions(pixels, lengths, size),  # type: ignore[misc]
            lambda lengths=lengths: engine.captions(pictures, lengths),  # type: ignore[misc]
            sizes,
        )
        bench.compare(
            f"the same, with cached image features: {kind} tokens",
            lambda size, lengths=lengths: static.captions_of(features, lengths, size),  # type: ignore[misc]
            lambda lengths=lengths: engine.captions_of(features, lengths),  # type: ignore[misc]
            sizes,
        )
    for way, size in (("one by one", 1), ("in one batch, 8 copies of the image", 8)):
        bench.compare(
            f"8 questions about one image; `generate` {way}",
            lambda size: static.answers(pixels[:1], QUESTIONS, UNIFORM, size),
            lambda: engine.answers(pictures[:1], QUESTIONS, UNIFORM),
            [size],
        )


def kinds_of_lengths(rows: int) -> Iterator[tuple[str, list[int]]]:
    """Yield kinds of answer lengths, and the number of new tokens of each row."""
    rng = Random(11)
    yield f"{UNIFORM}", [UNIFORM] * rows
    yield f"{SHORTEST} to {LONGEST}", [rng.randint(SHORTEST, LONGEST) for _ in range(rows)]


def draw_scenes(count: int, side: int) -> Tensor:
    """Draw scenes of the demo's world: uint8 (count, side, side, 3)."""
    rng = Random(7)
    scenes = [np.asarray(draw(random_scene(rng), side, side)) for _ in range(count)]
    return torch.from_numpy(np.stack(scenes))


def processor() -> str:
    """Return the name of the CPU, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", choices=("demo", "vitb", "all"), default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, help="number of images; default: 480 for the demo model, 32 for ViT-B"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())
