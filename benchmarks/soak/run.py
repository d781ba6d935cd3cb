"""`python -m benchmarks.soak`: a soak test of the engine with many thousand mixed rows.

The demo models run in one process: every task, every kind of decoding, duplicates, cancelled and
late rows, invalid rows, and a feature cache that is far too small. Every request must get exactly
one valid answer; an idle engine must have no state left; and a sample of the rows must get equal
answers as the only row of another engine. Memory and Python's objects are counted throughout.
"""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import torch

from benchmarks.soak.checks import Memory, equal_answers, leaks, memory, references
from benchmarks.soak.traffic import SHARES, SoakItem, Traffic, draw_pictures
from config.settings import DEMO_MATCH_MODEL, DEMO_MODEL
from worker.engine.engine import Engine
from worker.engine.errors import PromptTooLong
from worker.engine.model import Generator, Matcher, as_generator, as_matcher
from worker.engine.request import Answer, Request
from worker.models.registry import load

PICTURES: Final = 200
MAX_ROWS: Final = 24
#: Half for each model: 128 pictures of the first, fifteen of the second.
FEATURE_BYTES: Final = 2**20
#: Maximum waiting rows, and rows between two idle checks.
BACKLOG, EVERY = 120, 1000
#: Numbers of rows that arrive in one step.
ARRIVALS: Final = (0, 0, 1, 1, 2, 4, 8, 60)
#: Number of ids; they are reused.
IDS: Final = 4096
#: Steps without an answer after which the engine counts as stuck.
STUCK: Final = 5000
#: Requests whose texts are tokenized beforehand, to fill the tokenizers' caches (4,096 texts,
#: 10,000 words).
TEXTS: Final = 120_000
#: Share of the run after which memory is evaluated: caches are full then.
WARM: Final = 0.2


@dataclass
class Report:
    """The result of a soak test. `problems` is empty if it passed."""

    rows: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    joined: int = 0
    compared: int = 0
    memory: list[Memory] = field(default_factory=list)

    def slopes(self, since: float = WARM) -> tuple[float, float]:
        """Return the slopes of bytes and objects per 1,000 rows after a share of the run."""
        warm = [sample for sample in self.memory if sample.rows >= since * self.rows]
        rows = [sample.rows / 1000 for sample in warm]
        return (
            statistics.linear_regression(rows, [sample.resident_bytes for sample in warm]).slope,
            statistics.linear_regression(rows, [sample.objects for sample in warm]).slope,
        )


class Soak:
    """A soak test of one engine."""

    def __init__(
        self, model: Generator, matcher: Matcher | None, seed: int, sample_size: int
    ) -> None:
        self.model, self.matcher, self.sample_size = model, matcher, sample_size
        self.steps = 0
        self.before = references()
        self.engine = Engine(
            model,
            matcher,
            max_rows=MAX_ROWS,
            feature_bytes=FEATURE_BYTES,
            clock=lambda: float(self.steps),
        )
        pictures = list(draw_pictures(PICTURES, seed, model.image_size))
        self.pixels = {picture.name: picture.pixels for picture in pictures}
        self.traffic = Traffic(seed, pictures, self.engine.tasks)
        self.random, self.report = Random(seed), Report()
        self.waiting: dict[int | str, SoakItem] = {}
        self.cancels: defaultdict[int, list[SoakItem]] = defaultdict(list)
        #: Rows of each kind to run again one at a time.
        self.sample: defaultdict[str, list[tuple[Request, Answer]]] = defaultdict(list)
        self._good: Counter[str] = Counter()

    def run(self, rows: int, every: int = EVERY) -> Report:
        """Run rows, with an idle check after `every` rows, and compare the sample."""
        started = time.perf_counter()
        while self.report.rows < rows:
            self._burst(min(every, rows - self.report.rows))
            self.report.problems += leaks(self.engine, self.before)
            self.report.seconds = time.perf_counter() - started
            self.report.memory.append(memory(self.report.rows))
        self.report.joined = self.engine.stats.joined
        self._compare()
        return self.report

    def _burst(self, rows: int) -> None:
        """Add rows at random steps and run until all are answered."""
        quiet = 0
        while rows or self.waiting or not self.engine.idle:
            arriving = self.random.choice(ARRIVALS) if len(self.waiting) < BACKLOG else 0
            for _ in range(min(arriving, rows)):
                rows -= 1
                self._add_row()
            self._step()
            quiet = 0 if rows else quiet + 1
            if quiet > STUCK:
                raise RuntimeError(f"{len(self.waiting)} rows are never answered")
        self._pass_deadlines()

    def _add_row(self) -> None:
        item = self.traffic.next(self.report.rows % IDS, self.steps)
        self.report.rows += 1
        self.report.kinds[item.kind] += 1
        self.waiting[item.request.id] = item
        if item.cancel_at is not None:
            self.cancels[max(item.cancel_at, self.steps)].append(item)
        self.engine.add(item.request)

    def _step(self) -> None:
        for item in self.cancels.pop(self.steps, ()):
            if self.waiting.get(item.request.id) is item:
                self.engine.cancel(item.request.id)
        self.engine.cancel("unknown")
        answers = self.engine.step()
        self.steps += 1
        for answer in answers:
            self._check(answer)

    def _pass_deadlines(self) -> None:
        """Advance the clock past all deadlines."""
        self.cancels.clear()
        self.steps += 1000
        self._step()

    def _check(self, answer: Answer) -> None:
        item = self.waiting.pop(answer.id, None)
        self.report.outcomes[answer.error_code or "answered"] += 1
        if item is None:
            self.report.problems.append(f"unexpected answer {answer}")
        elif answer.error_code not in item.allowed:
            self.report.problems.append(f"{item.kind}: {answer.error_code}, {item.allowed}")
        elif answer.error_code is None:
            self._sample(item, answer)

    def _sample(self, item: SoakItem, answer: Answer) -> None:
        """Add a row to the sample of its kind (reservoir sampling)."""
        if not item.request.options.deterministic:
            return
        self._good[item.kind] += 1
        sample, size = self.sample[item.kind], -(-self.sample_size // (len(SHARES) - 1))
        if len(sample) < size:
            sample.append((item.request, answer))
        elif (index := self.random.randrange(self._good[item.kind])) < size:
            sample[index] = (item.request, answer)

    def _compare(self) -> None:
        for request, answer in (pair for sample in self.sample.values() for pair in sample):
            request.deadline = None
            request.pixels = self.pixels.get(request.image_hash)
            engine = Engine(self.model, self.matcher, max_rows=1)
            engine.add(request)
            alone: list[Answer] = []
            while not engine.idle:
                alone += engine.step()
            self.report.compared += 1
            if len(alone) != 1 or not equal_answers(answer, alone[0]):
                self.report.problems.append(f"{request.task}: {answer} in a batch, {alone} alone")


def fill_caches(model: Generator, traffic: Traffic) -> None:
    """Fill the tokenizers' caches, so that they do not grow during the run."""
    for _ in range(TEXTS):
        request = traffic.next(0, 0).request
        if request.task in ("vqa", "chat"):
            with suppress(PromptTooLong):
                model.prompt(request)


def demo_models() -> tuple[Generator, Matcher | None]:
    """Load the demo's models in fp32 on the CPU."""
    model = as_generator(load(str(DEMO_MODEL), "fp32", "cpu"))
    assert model is not None
    if not DEMO_MATCH_MODEL.is_dir():
        return model, None
    return model, as_matcher(load(str(DEMO_MATCH_MODEL), "fp32", "cpu"))


def main() -> int:
    """Print a report; exit code 1 if there is a problem."""
    options = _options()
    torch.set_num_threads(1)
    soak = Soak(*demo_models(), options.seed, options.compare)
    fill_caches(soak.model, Traffic(-1, soak.traffic.pictures, soak.engine.tasks))
    report = soak.run(options.rows)
    print(
        f"{report.rows} rows in {report.seconds:.0f} s: {report.rows / report.seconds:.0f} rows/s"
    )
    for title, counter in (("requests", report.kinds), ("outcomes", report.outcomes)):
        print(
            f"{title}: " + ", ".join(f"{name} {number}" for name, number in counter.most_common())
        )
    print(f"joined: {report.joined}; compared with the row alone: {report.compared}")
    print_memory(report)
    print(f"problems: {len(report.problems)}", *report.problems[:20], sep="\n  ")
    return 1 if report.problems else 0


def print_memory(report: Report) -> None:
    """Print memory and its trend after the warm-up."""
    warm = [sample for sample in report.memory if sample.rows >= WARM * report.rows]
    if len(warm) < 4:
        print("memory: too few rows for a trend")
        return
    shown = [warm[part * (len(warm) - 1) // 4] for part in range(5)]
    sizes = ", ".join(f"{sample.resident_bytes / 2**20:.1f}" for sample in shown)
    size, objects = report.slopes()
    late_size, late_objects = report.slopes(0.5)
    print(f"resident: {sizes} MiB at {', '.join(str(sample.rows) for sample in shown)} rows")
    print(f"  slope: {size:.0f} bytes per 1,000 rows; in the second half {late_size:.0f}")
    print(f"objects: {', '.join(str(sample.objects) for sample in shown)}")
    print(f"  slope: {objects:.1f} per 1,000 rows; in the second half {late_objects:.1f}")


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", type=int, default=300, help="rows to run again one at a time")
    return parser.parse_args()
