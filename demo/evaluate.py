"""Measure the demo model on held-out scenes: `python -m demo.evaluate`.

Prints a Markdown table of the share of texts that are right to the letter, through
nothing but transformers' own processor and `generate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from demo.dialogues import PROMPT, dialogue
from demo.scenes import Scene, random_picture, random_scene

ROWS = 64
#: Names of the answers that come after earlier ones.
LATER_ANSWERS = ("second", "third", "fourth")


class Row(NamedTuple):
    """A picture with a prompt, and the text that is right."""

    kind: str
    picture: Image.Image
    prompt: str
    expected: str


def rows_of(scene: Scene, rng: Random) -> Iterator[Row]:
    """Yield the caption, its end after a given beginning, questions of each kind, a dialogue."""
    picture = random_picture(rng, scene)
    caption = scene.caption()
    shapes = "one shape" if scene.relation is None else "two shapes"
    yield Row(f"caption, {shapes}", picture, "", caption)
    beginning = " ".join(caption.split()[: rng.choice((2, 3))])
    yield Row(f"caption begun, {shapes}", picture, beginning, caption)
    questions = scene.questions()
    rng.shuffle(questions)
    by_kind = list({question.kind: question for question in questions}.values())
    for question in by_kind:
        yield Row(question.kind, picture, dialogue([], question.question), question.answer)
    # So far, kinds with many questions come first.
    rng.shuffle(by_kind)
    turns = [(question.question, question.answer) for question in by_kind]
    for number, ordinal in enumerate(LATER_ANSWERS, start=1):
        text, answer = turns[number]
        kind = f"{ordinal} answer of a dialogue"
        yield Row(kind, picture, dialogue(turns[:number], text), answer)


def held_out(scenes: int, seed: int) -> Iterator[Row]:
    """Yield the rows of scenes that no training draws."""
    for number in range(scenes):
        rng = Random(f"held out/{seed}/{number}")
        yield from rows_of(random_scene(rng), rng)


class Captioner:
    """A BLIP-2 directory or hub name, for questions in batches."""

    def __init__(self, name: str | Path) -> None:
        self.processor = Blip2Processor.from_pretrained(name)
        self.processor.tokenizer.padding_side = "left"
        self.model = Blip2ForConditionalGeneration.from_pretrained(name)

    def ask(self, rows: Sequence[Row]) -> list[str]:
        """Return the model's texts: a caption whole, an answer alone."""
        pictures, prompts = [row.picture for row in rows], [row.prompt for row in rows]
        inputs = self.processor(images=pictures, text=prompts, padding=True, return_tensors="pt")
        tokens = self.model.generate(**inputs, max_new_tokens=20)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        _, before_answer = PROMPT.split("{question}")
        return [
            (text if row.prompt.endswith(before_answer) else row.prompt + text).strip()
            for row, text in zip(rows, texts, strict=True)
        ]


def measure(captioner: Captioner, rows: Iterable[Row]) -> dict[str, list[bool]]:
    """Judge each text, by kind; report the wrong ones on stderr."""
    right: dict[str, list[bool]] = {}
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS)):
        for row, text in zip(chunk, captioner.ask(chunk), strict=True):
            right.setdefault(row.kind, []).append(text == row.expected)
            if text != row.expected:
                size = f"{row.picture.width}x{row.picture.height}"
                print(f"{row.kind} ({size}): {row.prompt!r}", file=sys.stderr)
                print(f"  expected {row.expected!r}, got {text!r}", file=sys.stderr)
    return right


def table(right: dict[str, list[bool]]) -> str:
    """Lay out the shares of right texts as a Markdown table."""
    lines = ["| kind | texts | exactly right |", "|---|---:|---:|"]
    for kind in sorted(right):
        share = sum(right[kind]) / len(right[kind])
        lines.append(f"| {kind} | {len(right[kind])} | {share:.1%} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table of a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=Path(__file__).with_name("model"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with torch.inference_mode():
        print(table(measure(Captioner(args.model), held_out(args.scenes, args.seed))))


if __name__ == "__main__":
    main(sys.argv[1:])
