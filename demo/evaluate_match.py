"""Measure the demo's retrieval model on held-out scenes: `python -m demo.evaluate_match`.

Prints two Markdown tables: verdicts (ITM), and finding a picture by its caption and back (ITC),
through nothing but transformers' own processor and forward.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import BlipForImageTextRetrieval, BlipProcessor

from demo.match_texts import ERRORS, caption, confusions, errors, phrases
from demo.scenes import random_picture, random_scene

ROWS = 64
#: Pictures from which each caption picks its own.
GALLERY = 100


class Row(NamedTuple):
    """A text about a picture."""

    scene: int
    kind: str
    shapes: int
    picture: Image.Image
    text: str
    true: bool


class Verdict(NamedTuple):
    """P(match) of a row, and of the right caption of the same picture."""

    row: Row
    probability: float
    of_caption: float


class Recall(NamedTuple):
    """Searches in a gallery: 1 for a match at the first rank, and at the first five, else 0."""

    name: str
    first: Tensor
    fifth: Tensor


def held_out(scenes: int, seed: int) -> Iterator[Row]:
    """Yield the caption of each scene, then all that is wrong, or partly true, of it."""
    for number in range(scenes):
        rng = Random(f"held out/match/{seed}/{number}")
        scene = random_scene(rng)
        picture, shapes = random_picture(rng, scene), len(scene.shapes)
        texts = [caption(scene), *errors(rng, scene), *confusions(rng, scene)]
        for text in [*texts, *phrases(rng, scene)]:
            yield Row(number, text.kind, shapes, picture, text.text, text.true)


class Matching:
    """A BLIP retrieval directory or hub name, for verdicts in batches."""

    def __init__(self, name: str | Path) -> None:
        self.processor = BlipProcessor.from_pretrained(name)
        self.model = BlipForImageTextRetrieval.from_pretrained(name, dtype=torch.float32)

    def probabilities(self, rows: Sequence[Row]) -> list[float]:
        """Return P(match) of each row."""
        scores = self.model(**self._inputs(rows)).itm_score.softmax(1)[:, 1]
        return [float(score) for score in scores]

    def cosines(self, rows: Sequence[Row]) -> Tensor:
        """Return the cosine of each picture (rows) with each text (columns)."""
        scores: Tensor = self.model(**self._inputs(rows), use_itm_head=False).itm_score
        return scores

    def _inputs(self, rows: Sequence[Row]) -> Any:
        pictures, texts = [row.picture for row in rows], [row.text for row in rows]
        return self.processor(images=pictures, text=texts, padding=True, return_tensors="pt")


def judge(matching: Matching, rows: Iterable[Row]) -> list[Verdict]:
    """Return a verdict on each row."""
    verdicts, of_caption, remaining = [], 0.0, iter(rows)
    while chunk := list(islice(remaining, ROWS)):
        for row, probability in zip(chunk, matching.probabilities(chunk), strict=True):
            if row.kind == "caption":
                of_caption = probability
            verdicts.append(Verdict(row, probability, of_caption))
    return verdicts


def fair(verdicts: Sequence[Verdict]) -> float:
    """Return balanced accuracy at 0.5: half for accepting the right captions of the pictures."""
    rejected = sum(verdict.probability < 0.5 for verdict in verdicts)
    accepted = sum(verdict.of_caption > 0.5 for verdict in verdicts)
    return (rejected + accepted) / (2 * len(verdicts))


def table(verdicts: Sequence[Verdict]) -> str:
    """Lay out, by kind, the shares of texts judged rightly and ranked below the right caption."""
    lines = [
        "| text | shapes | texts | judged rightly | balanced with the captions | ranked rightly |",
        "|---|---|---:|---:|---:|---:|",
    ]
    kinds = sorted({verdict.row.kind for verdict in verdicts})
    for kind in dict.fromkeys(["caption", *ERRORS, *kinds]):
        for shapes in (1, 2):
            group = [v for v in verdicts if (v.row.kind, v.row.shapes) == (kind, shapes)]
            if group:
                lines.append(f"| {kind} | {shapes} | {len(group)} | {_shares(group)} |")
    return "\n".join(lines)


def _shares(verdicts: Sequence[Verdict]) -> str:
    count = len(verdicts)
    right = sum((verdict.probability > 0.5) == verdict.row.true for verdict in verdicts) / count
    if verdicts[0].row.true:
        return f"{right:.1%} | |"
    ranked = sum(verdict.probability < verdict.of_caption for verdict in verdicts) / count
    return f"{right:.1%} | {fair(verdicts):.1%} | {ranked:.1%}"


def galleries(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield pictures of different captions, `GALLERY` at a time."""
    gallery: dict[str, Row] = {}
    for row in rows:
        if row.kind == "caption":
            gallery.setdefault(row.text, row)
            if len(gallery) == GALLERY:
                yield list(gallery.values())
                gallery.clear()


def recalls(matching: Matching, rows: Iterable[Row]) -> str:
    """Lay out the shares of searches that the nearest embedding answers rightly."""
    searches = []
    for gallery in galleries(rows):
        scores, right = matching.cosines(gallery), torch.arange(GALLERY)
        for name, towards in (("picture by caption", scores.T), ("caption by picture", scores)):
            ranks = (towards > towards.diagonal()[:, None]).sum(1)
            at_first = (towards.argmax(1) == right).float()
            searches.append(Recall(name, at_first, (ranks < 5).float()))
    lines = [f"| search, among {GALLERY} | searches | recall at 1 | at 5 |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(search.name for search in searches):
        first = torch.cat([search.first for search in searches if search.name == name])
        fifth = torch.cat([search.fifth for search in searches if search.name == name])
        lines.append(f"| {name} | {len(first)} | {first.mean():.1%} | {fifth.mean():.1%} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the tables of a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=Path(__file__).with_name("match_model"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    matching = Matching(args.model)
    with torch.inference_mode():
        rows = list(held_out(args.scenes, args.seed))
        verdicts = judge(matching, rows)
        print(table(verdicts), recalls(matching, rows), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
