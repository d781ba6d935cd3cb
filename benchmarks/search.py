"""`python -m benchmarks.search`: vector indexes for `blipline search`, by measurement.

A million unit vectors by default, all directions equally likely ("random") or around 1,000 centres,
in few dimensions, as embeddings of pictures are ("clustered"). For each index: the processor time
of building it and its peak memory, its size, and, in a new process, resident memory, queries per
second of processor time of one thread, and recall at 10 against exact search. A Redis server counts
as part of the process.
"""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.producing import in_process
from benchmarks.timing import note, timed
from benchmarks.vector_indexes import BLOCK, INDEXES, Ids, Vectors, warm_up

#: Neighbours of a search.
NEIGHBOURS: Final = 10
#: Seconds of searches for each setting.
SEARCH_S: Final = 5.0
CENTRES: Final = 1000
#: Dimensions in which clustered vectors vary.
DIRECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Searches:
    """Measurements of one search setting."""

    setting: str
    resident_bytes: int
    queries_per_s: float
    recall: float


def main() -> None:
    """Print a Markdown table for each kind of vectors."""
    options = _options()
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"{options.vectors:,} vectors of {options.dimensions} dimensions; {cores}")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory(prefix="blipline-search-", dir=options.folder) as folder:
            _measure_kind(kind, options, Path(folder))


def _measure_kind(kind: str, options: Namespace, folder: Path) -> None:
    note(f"{kind}: making vectors")
    source = folder / "source.npy"
    in_process(_write, source, kind, options.vectors, options.dimensions)
    queries = _make(kind, options.queries, options.dimensions, seed=2)
    exact, seconds = timed(lambda: exact_neighbours(np.load(source, mmap_mode="r"), queries))
    note(f"{kind}: exact neighbours of {len(queries)} queries in {seconds:.0f} s")
    print(
        f"\n{kind} vectors:\n\n| index | build, CPU | peak | size | search | resident | queries/s "
        "| recall@10 |\n|---|---:|---:|---:|---|---:|---:|---:|",
        flush=True,
    )
    for name in options.indexes:
        own = folder / name
        own.mkdir()
        try:
            build_s, peak_bytes, size_bytes = in_process(_build, name, own, source)
        except Exception as error:
            print(f"| {INDEXES[name].name} | not measured: {error} |", flush=True)
            continue
        note(f"{kind}: {name} built in {build_s:.0f} s")
        for searches in in_process(_search, name, own, queries, exact):
            print(
                f"| {INDEXES[name].name} | {build_s:,.0f} s | {_mb(peak_bytes)} | "
                f"{_mb(size_bytes)} | {searches.setting} | {_mb(searches.resident_bytes)} | "
                f"{searches.queries_per_s:,.1f} | {searches.recall:.1%} |",
                flush=True,
            )


def _make(kind: str, count: int, dimensions: int, seed: int) -> Vectors:
    """Return unit vectors; those of other seeds are around the same centres."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    if kind == "random":
        vectors = rng.standard_normal((count, dimensions), dtype=np.float32)
    else:
        centres = shared.standard_normal((CENTRES, dimensions), dtype=np.float32)
        basis = shared.standard_normal((DIRECTIONS, dimensions), dtype=np.float32)
        within = rng.standard_normal((count, DIRECTIONS), dtype=np.float32) / DIRECTIONS**0.5
        noise = rng.standard_normal((count, dimensions), dtype=np.float32)
        vectors = 0.5 * centres[rng.integers(0, CENTRES, count)] + within @ basis + 0.1 * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def _write(path: Path, kind: str, count: int, dimensions: int) -> None:
    file = np.lib.format.open_memmap(path, "w+", np.float32, (count, dimensions))
    for first in range(0, count, BLOCK):
        size = min(BLOCK, count - first)
        file[first : first + size] = _make(kind, size, dimensions, seed=100 + first)
    file.flush()


def exact_neighbours(vectors: Vectors, queries: Vectors) -> Ids:
    """Return the numbers of the nearest vectors of each query, by products with all."""
    scores = np.full((len(queries), NEIGHBOURS), -2.0, dtype=np.float32)
    numbers = np.zeros((len(queries), NEIGHBOURS), dtype=np.int64)
    for first in range(0, len(vectors), BLOCK):
        block = queries @ np.asarray(vectors[first : first + BLOCK]).T
        columns = np.arange(first, first + block.shape[1])
        all_scores = np.concatenate([scores, block], axis=1)
        all_numbers = np.concatenate([numbers, np.tile(columns, (len(queries), 1))], axis=1)
        best = np.argpartition(-all_scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        scores = np.take_along_axis(all_scores, best, axis=1)
        numbers = np.take_along_axis(all_numbers, best, axis=1)
    return numbers


def _build(name: str, folder: Path, source: Path) -> tuple[float, int, int]:
    """Return the processor time, the peak of memory besides the source's pages, and the size."""
    index = INDEXES[name](folder)
    vectors = np.load(source, mmap_mode="r")
    peak = before = index.resident_bytes("RssAnon")

    def sample() -> None:
        nonlocal peak
        peak = max(peak, index.resident_bytes("RssAnon"))

    started_s = index.cpu_s()
    _with_sampling(lambda: index.build(vectors), sample)
    return index.cpu_s() - started_s, peak - before, index.size_bytes


def _with_sampling(call: Callable[[], None], sample: Callable[[], None]) -> None:
    """Run a call, and another one five times a second meanwhile."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            sample()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()


def _search(name: str, folder: Path, queries: Vectors, exact: Ids) -> list[Searches]:
    index = INDEXES[name](folder)
    before = index.resident_bytes("VmRSS")
    index.open(queries.shape[1])
    measured = []
    for setting in index.settings():
        warm_up(index, queries, NEIGHBOURS, SEARCH_S)
        answers, started_s, end_s = [], index.cpu_s(), time.monotonic() + SEARCH_S
        for query in queries:
            answers.append(index.search(query, NEIGHBOURS))
            if time.monotonic() > end_s:
                break
        seconds = index.cpu_s() - started_s
        right = sum(
            len({*answer} & {*map(int, expected)})
            for answer, expected in zip(answers, exact, strict=False)
        )
        recall = right / (len(answers) * NEIGHBOURS)
        resident = index.resident_bytes("VmRSS") - before
        measured.append(Searches(setting, resident, len(answers) / seconds, recall))
    return measured


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def _options() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", default=["random", "clustered"])
    parser.add_argument("--indexes", nargs="+", default=[*INDEXES], choices=[*INDEXES])
    parser.add_argument("--folder", help="for temporary files; default: the usual one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
