"""What is asked under faults, and what plain transformers answers to it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from PIL import Image

from demo.scenes import draw, random_scene
from tests.system import reference

QUESTIONS: Final = ("how many shapes are there?", "what color is the background?")
#: Items of a batch, at least and at most.
BATCH_ITEMS: Final = (24, 60)
CHUNK_ITEMS: Final = 4
#: How many items of a batch are questions, and how many images come from a host.
QUESTIONED, HOSTED = 0.3, 0.3
SIDE: Final = 64


@dataclass(frozen=True)
class Scene:
    """A picture, and what is true of it by the reference."""

    path: Path
    data: bytes
    caption: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Order:
    """A batch: the same id, the same items, whoever submits it, and however often."""

    batch_id: str
    items: list[dict[str, Any]]
    expected: list[str]

    def save(self, path: Path) -> Path:
        """Write it down for a producer's process."""
        said = {"batch_id": self.batch_id, "items": self.items, "chunk_items": CHUNK_ITEMS}
        path.write_text(json.dumps(said))
        return path


def draw_scenes(directory: Path, count: int) -> list[Scene]:
    """Scenes that differ, as files, with their references; a process computes them once."""
    # One thread each: several would wait for one another on a machine that is busy.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_saved(directory / f"{number}.png", _drawn(number)) for number in range(count)]
    finally:
        torch.set_num_threads(threads)


def _saved(path: Path, drawn: tuple[bytes, str, dict[str, str]]) -> Scene:
    path.write_bytes(drawn[0])
    return Scene(path, *drawn)


@cache
def _drawn(seed: int) -> tuple[bytes, str, dict[str, str]]:
    file = io.BytesIO()
    draw(random_scene(Random(seed)), SIDE, SIDE).save(file, "PNG")
    seen = Image.open(file)
    answers = {question: reference.answer(seen, question) for question in QUESTIONS}
    return file.getvalue(), reference.caption(seen), answers


def order(
    batch_id: str, scenes: list[Scene], address: Callable[[str, object], str], rng: Random
) -> Order:
    """A batch of captions and questions about uploaded images and about those of a host."""
    items, expected = [], []
    for number in range(rng.randint(*BATCH_ITEMS)):
        scene = rng.choice(scenes)
        image = str(scene.path)
        if rng.random() < HOSTED:
            image = address(scene.path.name, f"{batch_id}-{number}")
        item = {"custom_id": f"{batch_id}-{number}", "image": image}
        text = scene.caption
        if rng.random() < QUESTIONED:
            question = rng.choice(QUESTIONS)
            item |= {"task": "vqa", "question": question}
            text = scene.answers[question]
        items.append(item)
        expected.append(text)
    return Order(batch_id, items, expected)
