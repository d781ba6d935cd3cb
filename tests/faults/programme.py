"""The fault programme: repeated faults of every kind under load.

`python -m tests.faults.programme --seed 1 --faults 100` prints the faults and the violations; the
exit code is 1 if there are violations.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shutil import rmtree
from threading import Thread
from typing import Final

from tests.echo_worker import ENVIRONMENT
from tests.faults.cluster import Cluster, running_cluster, running_replicated_cluster
from tests.faults.faults import ANYWHERE, TO_ONE_REDIS, TO_REPLICAS, Fault, Stage
from tests.faults.hosts import running_host
from tests.faults.load import PATIENCE_S, Load, leftovers
from tests.faults.orders import draw_scenes
from tests.faults.processes import holds

SCENES: Final = 80
#: Items that are answered between two faults that do not overlap.
ITEMS_BETWEEN: Final = 20
#: Share of faults that overlap the one before, and maximum seconds before a fault.
OVERLAPS, PAUSE_S = 0.5, 0.7
#: Faults per cluster.
PHASE_FAULTS: Final = 25
#: Seconds after the last result until Redis holds no leftovers: an answered message that was not
#: acknowledged is redelivered once.
TIDY_S: Final = 60.0


@dataclass
class Report:
    """The counts and violations of one run."""

    faults: Counter[str] = field(default_factory=Counter)
    items: int = 0
    retries: int = 0
    duration_s: float = 0.0
    given_up: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add(self, run: Report) -> None:
        """Add the figures of another run."""
        self.faults += run.faults
        self.items += run.items
        self.retries += run.retries
        self.duration_s += run.duration_s
        self.given_up += run.given_up
        self.losses += run.losses
        self.violations += run.violations

    def lines(self) -> Iterator[str]:
        """Yield the lines of the printed report."""
        for name, times in sorted(self.faults.items()):
            yield f"{times:5}  {name}"
        yield f"{self.faults.total():5}  faults in {self.duration_s:.0f} s"
        yield f"{self.items:5}  items answered, {self.retries} calls tried again"
        yield from (f"a worker gave up and was restarted: {worker}" for worker in self.given_up)
        yield from (f"unknown to a new master, submitted again: {job}" for job in self.losses)
        yield from (f"VIOLATION: {message}" for message in self.violations)


class Programme:
    """The life of one cluster: load, faults, and a final check."""

    def __init__(self, cluster: Cluster, load: Load, seed: int, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._load = load
        self._seed = seed
        self._say = say
        self._active: list[Thread] = []
        self._report = Report()

    def run(self, kinds: Sequence[Fault], faults: int, stage: Callable[[Random], Stage]) -> Report:
        """Cause faults, all kinds equally often, in an order that the seed determines."""
        started = time.monotonic()
        rng = Random(f"programme {self._seed}")
        self._load.start()
        for number, fault in enumerate(_deck(kinds, faults, rng)):
            if not self._load.wait_for_work(ITEMS_BETWEEN, PATIENCE_S):
                self._load.verdict.violate(f"no progress before fault {number}")
                break
            time.sleep(rng.uniform(0, PAUSE_S))
            if fault.__name__ in (thread.name for thread in self._active):
                self._join()
            self._cause(fault, stage(Random(f"fault {self._seed} {number}")))
            if rng.random() > OVERLAPS:
                self._join()
        self._join()
        self._end()
        self._report.duration_s = time.monotonic() - started
        return self._report

    def _cause(self, fault: Fault, stage: Stage) -> None:
        def act() -> None:
            try:
                for hold_s in fault(stage):
                    time.sleep(hold_s)
            except Exception as error:
                self._load.verdict.violate(f"{fault.__name__}: {type(error).__name__}: {error}")

        self._say(fault.__name__)
        self._report.faults[fault.__name__] += 1
        thread = Thread(target=act, name=fault.__name__, daemon=True)
        thread.start()
        self._active.append(thread)

    def _join(self) -> None:
        for thread in self._active:
            thread.join(2 * PATIENCE_S)
            if thread.is_alive():
                self._load.verdict.violate(f"{thread.name} did not end")
        self._active.clear()

    def _end(self) -> None:
        """Check that after recovery every item gets its result and no key is left."""
        self._say("the last results")
        verdict = self._load.verdict
        self._cluster.revive()
        for worker in self._cluster.workers:
            if not worker.comes_up():
                verdict.violate(f"{worker.log.stem} did not restart")
        self._load.stop()
        self._say("all jobs have ended")
        with self._cluster.connect() as connection:
            if not holds(lambda: not leftovers(connection), TIDY_S, pause_s=0.5):
                verdict.violations += [f"left in Redis: {key}" for key in leftovers(connection)]
        self._say("nothing is left" if not verdict.violations else "there are violations")
        self._report.items, self._report.retries = verdict.answered, verdict.retries
        self._report.given_up = self._cluster.given_up
        self._report.losses = verdict.losses
        self._report.violations = verdict.violations


def _deck(kinds: Sequence[Fault], count: int, rng: Random) -> Iterator[Fault]:
    """Yield each kind once in a random order, then again in another order."""
    deck: list[Fault] = []
    for _ in range(count):
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        yield deck.pop()


def run_phase(
    kinds: Sequence[Fault],
    seed: int,
    faults: int,
    say: Callable[[str], None],
    *,
    replicated: bool = False,
    workers: int = 2,
    scenes: int = SCENES,
    batch_pause_s: float = 0.0,
    echoes: bool = False,
) -> Report:
    """Run a new cluster under faults of these kinds; keep its logs if there are violations.

    Plain transformers computes three texts of each scene, unless the engine only `echoes`;
    `batch_pause_s` is that of Load.
    """
    # A short path: the path of a Unix socket is limited to about a hundred bytes.
    directory = Path(tempfile.mkdtemp(prefix="blipline-faults-"))
    with ExitStack() as stack:
        drawn = draw_scenes(directory, scenes, echoes=echoes)
        pictures = {scene.path.name: scene.data for scene in drawn}
        host = stack.enter_context(running_host(pictures, seed))
        start = running_replicated_cluster if replicated else running_cluster
        cluster = stack.enter_context(start(directory, workers, ENVIRONMENT if echoes else None))
        load = Load(
            cluster.producer_url,
            drawn,
            host,
            seed,
            forgetful=replicated,
            batch_pause_s=batch_pause_s,
        )
        report = Programme(cluster, load, seed, say).run(
            kinds,
            faults,
            lambda rng: Stage(cluster, load, host, rng),
        )
    if report.violations:
        say(f"logs: {directory}")
    else:
        rmtree(directory)
    return report


def main() -> int:
    """Run phases until there were enough faults, or the time is over."""
    parser = ArgumentParser(prog="python -m tests.faults.programme", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices [1]")
    parser.add_argument("--faults", type=int, default=100, help="number of faults [100]")
    parser.add_argument("--minutes", type=float, default=60, help="start no later phase [60]")
    options = parser.parse_args()
    report, deadline = Report(), time.monotonic() + 60 * options.minutes
    phase = 0
    while report.faults.total() < options.faults and time.monotonic() < deadline:
        remaining = options.faults - report.faults.total()
        replicated = phase % 4 == 3
        kinds = (*ANYWHERE, *(TO_REPLICAS if replicated else TO_ONE_REDIS))
        seed, count = 1000 * options.seed + phase, min(PHASE_FAULTS, remaining)
        report.add(run_phase(kinds, seed, count, _say, replicated=replicated))
        phase += 1
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
