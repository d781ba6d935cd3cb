"""Measure search on held-out scenes, through the whole system: `python -m demo.evaluate_search`.

Indexes pictures of different captions and the captions themselves, searches each picture by its
caption and each caption by its picture, and prints the shares that are among the first hits, in the
order of the embeddings and re-ranked by image-text matching. Starts its own Redis and worker.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

from demo.scenes import random_picture, random_scene
from demo.stack import running_redis, running_worker
from producer import Client
from producer.search.hit import Hit
from producer.search.index import SearchIndex

#: Ranks at which recall is stated.
RANKS: Final = (1, 5, 10)
#: Searches at the same time.
THREADS: Final = 8

#: Returns the hits of a pair's search, given the number of hits to re-rank.
Search = Callable[[tuple[str, Path], int], list[Hit]]


def pairs(scenes: int, seed: int, folder: Path) -> list[tuple[str, Path]]:
    """Draw scenes of different captions; return each caption with its picture's file."""
    drawn: dict[str, Path] = {}
    for rng in _generators(seed):
        if len(drawn) == scenes:
            break
        scene = random_scene(rng)
        if (caption := scene.caption()) not in drawn:
            path = folder / f"{len(drawn):05d}.png"
            random_picture(rng, scene, largest=640).save(path)
            drawn[caption] = path
    return list(drawn.items())


def _generators(seed: int) -> Iterator[Random]:
    number = 0
    while True:
        yield Random(f"held out/search/{seed}/{number}")
        number += 1


def rows(index: SearchIndex, drawn: Sequence[tuple[str, Path]], rerank: int) -> Iterator[str]:
    """Yield the rows of the table."""

    def by_caption(pair: tuple[str, Path], reranked: int) -> list[Hit]:
        return index.search(pair[0], count=max(RANKS), rerank=reranked)

    def by_picture(pair: tuple[str, Path], reranked: int) -> list[Hit]:
        return index.search(image=pair[1], find="text", count=max(RANKS), rerank=reranked)

    searches: dict[str, Search] = {
        "picture by caption": by_caption,
        "caption by picture": by_picture,
    }
    for name, search in searches.items():
        for reranked in (0, rerank):
            started = time.monotonic()
            ranks = _ranks(search, drawn, reranked)
            rate = len(drawn) / (time.monotonic() - started)
            shares = [sum(rank <= limit for rank in ranks) / len(ranks) for limit in RANKS]
            order = f"ITM of the first {reranked}" if reranked else "cosine"
            cells = " | ".join(f"{share:.1%}" for share in shares)
            yield f"| {name} | {order} | {cells} | {rate:.1f} |"


def _ranks(search: Search, drawn: Sequence[tuple[str, Path]], rerank: int) -> list[int]:
    """Return the rank of each pair's own picture or caption; one beyond the last without it."""

    def rank(pair: tuple[str, Path]) -> int:
        values = [hit.value for hit in search(pair, rerank)]
        return next(
            (n for n, value in enumerate(values, 1) if value in (pair[0], str(pair[1]))), 99
        )

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(rank, drawn))


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--rerank", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="blipline-search-") as directory,
        running_redis() as url,
        running_worker(url, quiet=True),
        Client(url) as client,
    ):
        folder = Path(directory, "pictures")
        folder.mkdir()
        drawn = pairs(options.scenes, options.seed, folder)
        texts = Path(directory, "captions.jsonl")
        texts.write_text("".join(json.dumps({"text": caption}) + "\n" for caption, _ in drawn))
        index = client.index(Path(directory, "index"))
        started = time.monotonic()
        counts = index.update(folder, texts)
        seconds = time.monotonic() - started
        print(f"{counts.embedded:,} pictures and captions embedded in {seconds:.0f} s\n")
        print(f"| search, among {len(drawn):,} | order | recall@1 | @5 | @10 | searches/s |")
        print("|---|---|---:|---:|---:|---:|", flush=True)
        for row in rows(index, drawn, options.rerank):
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
