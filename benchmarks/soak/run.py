"""`python -m benchmarks.soak`: many thousand mixed rows, to see that nothing is lost or kept.

The demo's models in one process: every task, every way of decoding, duplicates, cancelled and late
rows, bad rows, and a feature cache that is far too small. Every request must be answered once and
as it should be; whenever the engine has worked everything off it must hold nothing; and a sample of
the rows must say what they say alone in an engine of their own. Memory and Python's objects are
counted all along.
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

from benchmarks.soak.checks import Memory, alike, alive, leftovers, memory
from benchmarks.soak.traffic import SHARES, Asked, Traffic, drawn
from config.settings import DEMO_MATCH_MODEL, DEMO_MODEL
from worker.engine.engine import Engine
from worker.engine.errors import PromptTooLong
from worker.engine.model import Generator, Matcher, as_generator, as_matcher
from worker.engine.request import Answer, Request
from worker.models.registry import load

PICTURES: Final = 200
MAX_ROWS: Final = 24
#: Half for each model: 128 pictures of the one, fifteen of the other.
FEATURE_BYTES: Final = 2**20
#: Rows that may wait before no more come, and rows between two moments of rest.
BACKLOG, EVERY = 120, 1000
#: Rows that come in one step: now nothing, now a flood.
ARRIVALS: Final = (0, 0, 1, 1, 2, 4, 8, 60)
#: Ids are used again when so many others have passed.
IDS: Final = 4096
#: Steps without an end after which the engine counts as stuck.
STUCK: Final = 5000
#: Requests whose texts are read beforehand: of those that differ there are more than tokenizers
#: remember (4,096 texts, 10,000 words).
TEXTS: Final = 120_000
#: The share of the run after which memory is looked at: caches are full then.
WARM: Final = 0.2


@dataclass
class Report:
    """How it went. `problems` is empty if all is well."""

    rows: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    joined: int = 0
    compared: int = 0
    memory: list[Memory] = field(default_factory=list)

    def slopes(self, since: float = WARM) -> tuple[float, float]:
        """Least squares of bytes and of objects in 1,000 rows, after that share of the run."""
        warm = [one for one in self.memory if one.rows >= since * self.rows]
        rows = [one.rows / 1000 for one in warm]
        return (
            statistics.linear_regression(rows, [one.resident_bytes for one in warm]).slope,
            statistics.linear_regression(rows, [one.objects for one in warm]).slope,
        )


class Soak:
    """One engine under fire."""

    def __init__(self, model: Generator, matcher: Matcher | None, seed: int, keep: int) -> None:
        self.model, self.matcher, self.keep = model, matcher, keep
        self.steps = 0
        self.before = alive()
        self.engine = Engine(
            model,
            matcher,
            max_rows=MAX_ROWS,
            feature_bytes=FEATURE_BYTES,
            clock=lambda: float(self.steps),
        )
        pictures = list(drawn(PICTURES, seed, model.image_size))
        self.pixels = {one.name: one.pixels for one in pictures}
        self.traffic = Traffic(seed, pictures, self.engine.tasks)
        self.random, self.report = Random(seed), Report()
        self.waiting: dict[int | str, Asked] = {}
        self.cancels: defaultdict[int, list[Asked]] = defaultdict(list)
        #: Rows of each kind that are run again alone.
        self.sample: defaultdict[str, list[tuple[Request, Answer]]] = defaultdict(list)
        self._good: Counter[str] = Counter()

    def run(self, rows: int, every: int = EVERY) -> Report:
        """Ask so many, with a rest after `every` rows, and compare the sample."""
        began = time.perf_counter()
        while self.report.rows < rows:
            self._burst(min(every, rows - self.report.rows))
            self.report.problems += leftovers(self.engine, self.before)
            self.report.seconds = time.perf_counter() - began
            self.report.memory.append(memory(self.report.rows))
        self.report.joined = self.engine.stats.joined
        self._compare()
        return self.report

    def _burst(self, rows: int) -> None:
        """Rows at random moments, until they are all answered."""
        quiet = 0
        while rows or self.waiting or not self.engine.idle:
            arriving = self.random.choice(ARRIVALS) if len(self.waiting) < BACKLOG else 0
            for _ in range(min(arriving, rows)):
                rows -= 1
                self._ask()
            self._step()
            quiet = 0 if rows else quiet + 1
            if quiet > STUCK:
                raise RuntimeError(f"{len(self.waiting)} rows are never answered")
        self._pass_deadlines()

    def _ask(self) -> None:
        asked = self.traffic.next(self.report.rows % IDS, self.steps)
        self.report.rows += 1
        self.report.kinds[asked.kind] += 1
        self.waiting[asked.request.id] = asked
        if asked.cancel_at is not None:
            self.cancels[max(asked.cancel_at, self.steps)].append(asked)
        self.engine.add(asked.request)

    def _step(self) -> None:
        for asked in self.cancels.pop(self.steps, ()):
            if self.waiting.get(asked.request.id) is asked:
                self.engine.cancel(asked.request.id)
        self.engine.cancel("nobody's")
        answers = self.engine.step()
        self.steps += 1
        for answer in answers:
            self._take(answer)

    def _pass_deadlines(self) -> None:
        """All that is late is known to be late."""
        self.cancels.clear()
        self.steps += 1000
        self._step()

    def _take(self, answer: Answer) -> None:
        asked = self.waiting.pop(answer.id, None)
        self.report.outcomes[answer.error_code or "answered"] += 1
        if asked is None:
            self.report.problems.append(f"nobody waited for {answer}")
        elif answer.error_code not in asked.allowed:
            self.report.problems.append(f"{asked.kind}: {answer.error_code}, {asked.allowed}")
        elif answer.error_code is None:
            self._keep(asked, answer)

    def _keep(self, asked: Asked, answer: Answer) -> None:
        """Each good row of a kind is as likely in the sample as any other."""
        if not asked.request.options.deterministic:
            return
        self._good[asked.kind] += 1
        kept, most = self.sample[asked.kind], -(-self.keep // (len(SHARES) - 1))
        if len(kept) < most:
            kept.append((asked.request, answer))
        elif (place := self.random.randrange(self._good[asked.kind])) < most:
            kept[place] = (asked.request, answer)

    def _compare(self) -> None:
        for request, answer in (pair for kept in self.sample.values() for pair in kept):
            request.deadline = None
            request.pixels = self.pixels.get(request.image_hash)
            engine = Engine(self.model, self.matcher, max_rows=1)
            engine.add(request)
            alone: list[Answer] = []
            while not engine.idle:
                alone += engine.step()
            self.report.compared += 1
            if len(alone) != 1 or not alike(answer, alone[0]):
                self.report.problems.append(f"{request.task}: {answer} in company, {alone} alone")


def fill_caches(model: Generator, traffic: Traffic) -> None:
    """Texts that tokenizers remember: as many, and of such lengths, as they will ever hold."""
    for _ in range(TEXTS):
        request = traffic.next(0, 0).request
        if request.task in ("vqa", "chat"):
            with suppress(PromptTooLong):
                model.prompt(request)


def demo_models() -> tuple[Generator, Matcher | None]:
    """Those of the checkout, in fp32 on the CPU."""
    model = as_generator(load(str(DEMO_MODEL), "fp32", "cpu"))
    assert model is not None
    if not DEMO_MATCH_MODEL.is_dir():
        return model, None
    return model, as_matcher(load(str(DEMO_MATCH_MODEL), "fp32", "cpu"))


def main() -> int:
    """Exit code 1 if there was a problem."""
    options = _options()
    torch.set_num_threads(1)
    soak = Soak(*demo_models(), options.seed, options.compare)
    fill_caches(soak.model, Traffic(-1, soak.traffic.pictures, soak.engine.tasks))
    report = soak.run(options.rows)
    print(
        f"{report.rows} rows in {report.seconds:.0f} s: {report.rows / report.seconds:.0f} rows/s"
    )
    for title, counter in (("asked", report.kinds), ("ended", report.outcomes)):
        print(f"{title}: " + ", ".join(f"{name} {many}" for name, many in counter.most_common()))
    print(f"joined: {report.joined}; compared with the row alone: {report.compared}")
    print_memory(report)
    print(f"problems: {len(report.problems)}", *report.problems[:20], sep="\n  ")
    return 1 if report.problems else 0


def print_memory(report: Report) -> None:
    """After the warm-up: how it goes on, and the trend."""
    warm = [one for one in report.memory if one.rows >= WARM * report.rows]
    if len(warm) < 4:
        print("memory: too few rows for a trend")
        return
    shown = [warm[place * (len(warm) - 1) // 4] for place in range(5)]
    sizes = ", ".join(f"{one.resident_bytes / 2**20:.1f}" for one in shown)
    size, objects = report.slopes()
    late_size, late_objects = report.slopes(0.5)
    print(f"resident: {sizes} MiB at {', '.join(str(one.rows) for one in shown)} rows")
    print(f"  slope: {size:.0f} bytes in 1,000 rows; in the second half {late_size:.0f}")
    print(f"objects: {', '.join(str(one.objects) for one in shown)}")
    print(f"  slope: {objects:.1f} in 1,000 rows; in the second half {late_objects:.1f}")


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", type=int, default=300, help="rows that are run again alone")
    return parser.parse_args()
