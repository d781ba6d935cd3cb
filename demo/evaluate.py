"""Measure the demo model on held-out scenes: `python -m demo.evaluate`.

Prints a Markdown table of the share of texts that are right to the letter, through
nothing but transformers' own processor and `generate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from demo.scenes import Scene, random_picture, random_scene

PROMPT = "Question: {question} Answer:"
ROWS = 64


class Row(NamedTuple):
    """One text asked of one picture."""

    kind: str
    picture: Image.Image
    prompt: str
    expected: str


def rows_of(scene: Scene, rng: Random) -> Iterator[Row]:
    """The caption, its end after a given beginning, and a question of each kind."""
    picture = random_picture(rng, scene)
    caption = scene.caption()
    number = "one shape" if scene.relation is None else "two shapes"
    yield Row(f"caption, {number}", picture, "", caption)
    beginning = " ".join(caption.split()[: rng.choice((2, 3))])
    yield Row(f"caption begun, {number}", picture, beginning, caption)
    questions = scene.questions()
    rng.shuffle(questions)
    for asked in {asked.kind: asked for asked in questions}.values():
        yield Row(asked.kind, picture, PROMPT.format(question=asked.question), asked.answer)


def held_out(scenes: int, seed: int) -> Iterator[Row]:
    for number in range(scenes):
        rng = Random(f"held out/{seed}/{number}")
        yield from rows_of(random_scene(rng), rng)


class Captioner:
    """A BLIP-2 directory or hub name, asked in batches."""

    def __init__(self, name: str | Path) -> None:
        self.processor = Blip2Processor.from_pretrained(name)
        self.processor.tokenizer.padding_side = "left"
        self.model = Blip2ForConditionalGeneration.from_pretrained(name)

    def ask(self, rows: Iterable[Row]) -> list[str]:
        """What the model says: a caption whole, an answer alone."""
        rows = list(rows)
        pictures, prompts = [row.picture for row in rows], [row.prompt for row in rows]
        inputs = self.processor(images=pictures, text=prompts, padding=True, return_tensors="pt")
        tokens = self.model.generate(**inputs, max_new_tokens=20)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [
            (text if row.prompt.endswith("Answer:") else row.prompt + text).strip()
            for row, text in zip(rows, texts, strict=True)
        ]


def measure(captioner: Captioner, rows: Iterable[Row]) -> dict[str, list[bool]]:
    """For each kind, whether each text was right."""
    right: dict[str, list[bool]] = {}
    rows = iter(rows)
    while some := list(islice(rows, ROWS)):
        for row, said in zip(some, captioner.ask(some), strict=True):
            right.setdefault(row.kind, []).append(said == row.expected)
            if said != row.expected:
                size = f"{row.picture.width}x{row.picture.height}"
                print(f"{row.kind} ({size}): {row.prompt!r}", file=sys.stderr)
                print(f"  expected {row.expected!r}, got {said!r}", file=sys.stderr)
    return right


def table(right: dict[str, list[bool]]) -> str:
    lines = ["| kind | asked | exactly right |", "|---|---:|---:|"]
    for kind in sorted(right):
        share = sum(right[kind]) / len(right[kind])
        lines.append(f"| {kind} | {len(right[kind])} | {share:.1%} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=Path(__file__).with_name("model"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with torch.inference_mode():
        print(table(measure(Captioner(args.model), held_out(args.scenes, args.seed))))


if __name__ == "__main__":
    main(sys.argv[1:])
