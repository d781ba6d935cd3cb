"""Batches for the fault programme, with the results of plain transformers or of echoes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image

from demo.scenes import draw, random_scene
from tests.echo_worker import SIDE, answer_to

QUESTIONS: Final = ("how many shapes are there?", "what color is the background?")
#: Minimum and maximum items of a batch.
BATCH_ITEMS: Final = (24, 60)
CHUNK_ITEMS: Final = 4
#: Share of a batch's items that are questions, and share of images from a host.
QUESTION_SHARE, REMOTE_SHARE = 0.3, 0.3


@dataclass(frozen=True)
class Scene:
    """A picture, and its results by the reference."""

    path: Path
    data: bytes
    caption: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Order:
    """A batch with a fixed id and fixed items, for any number of producers and submissions."""

    batch_id: str
    items: list[dict[str, Any]]
    expected: list[str]

    def save(self, path: Path) -> Path:
        """Write the batch to a file for a producer process."""
        data = {"batch_id": self.batch_id, "items": self.items, "chunk_items": CHUNK_ITEMS}
        path.write_text(json.dumps(data))
        return path


def draw_scenes(directory: Path, count: int, *, echoes: bool = False) -> list[Scene]:
    """Return distinct scenes as files, with their references; computed once per process."""
    drawn = enumerate(_draw(count, echoes))
    scenes = [Scene(directory / f"{n}.png", *scene) for n, scene in drawn]
    for scene in scenes:
        scene.path.write_bytes(scene.data)
    return scenes


@cache
def _draw(count: int, echoes: bool) -> list[tuple[bytes, str, dict[str, str]]]:
    files = [io.BytesIO() for _ in range(count)]
    for seed, file in enumerate(files):
        draw(random_scene(Random(seed)), SIDE, SIDE).save(file, "PNG")
    pictures = [Image.open(file) for file in files]
    captions, *replies = _echoes(pictures) if echoes else _references(pictures)
    answers = [dict(zip(QUESTIONS, texts, strict=True)) for texts in zip(*replies, strict=True)]
    return list(zip((file.getvalue() for file in files), captions, answers, strict=True))


def _echoes(pictures: Sequence[Image.Image]) -> list[list[str]]:
    return [[answer_to(picture, text) for picture in pictures] for text in ("", *QUESTIONS)]


def _references(pictures: Sequence[Image.Image]) -> list[list[str]]:
    # Late imports: they take seconds, and echoes need none of them.
    import torch

    from tests.system import reference

    # One thread: several would wait for each other on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        captions = reference.captions(pictures)
        return [captions, *(reference.answers(pictures, question) for question in QUESTIONS)]
    finally:
        torch.set_num_threads(threads)


def order(
    batch_id: str, scenes: list[Scene], address: Callable[[str, object], str], rng: Random
) -> Order:
    """Return a batch of captions and questions about uploaded and remote images."""
    items, expected = [], []
    for number in range(rng.randint(*BATCH_ITEMS)):
        scene = rng.choice(scenes)
        image = str(scene.path)
        if rng.random() < REMOTE_SHARE:
            image = address(scene.path.name, f"{batch_id}-{number}")
        item = {"custom_id": f"{batch_id}-{number}", "image": image}
        text = scene.caption
        if rng.random() < QUESTION_SHARE:
            question = rng.choice(QUESTIONS)
            item |= {"task": "vqa", "question": question}
            text = scene.answers[question]
        items.append(item)
        expected.append(text)
    return Order(batch_id, items, expected)
