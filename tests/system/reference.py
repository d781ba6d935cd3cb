"""The reference: plain transformers, written without the worker's code."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, Blip2ForConditionalGeneration

from demo.scenes import draw, is_clear, random_scene

#: Rows of a call.
BATCH = 16
MODEL = Path(__file__).resolve().parents[2] / "demo" / "model"


@cache
def _load() -> tuple[Any, Any]:
    network = Blip2ForConditionalGeneration.from_pretrained(MODEL).eval()
    return AutoProcessor.from_pretrained(MODEL), network


def caption(image: Image.Image, prompt: str = "", network: Any = None, **options: Any) -> str:
    """Return a caption of at most 20 new tokens, greedy unless `options` differ.

    `network` is another one than the demo model's.
    """
    text = _generate(image, prompt or None, network, **options)
    return text if not prompt else text[text.index(prompt) :]


def captions(images: Sequence[Image.Image]) -> list[str]:
    """Return the greedy caption of each image, in a tenth of the time of as many calls."""
    return [text for batch in _batches(images) for text in _generate_all(batch, None)]


def answer(image: Image.Image, question: str) -> str:
    """Return a greedy answer."""
    return answers([image], question)[0]


def answers(images: Sequence[Image.Image], question: str) -> list[str]:
    """Return the greedy answer of each image to one question."""
    prompt = f"Question: {question} Answer:"
    texts = (text for batch in _batches(images) for text in _generate_all(batch, prompt))
    return [text.removeprefix(prompt).strip() for text in texts]


def _batches(images: Sequence[Image.Image]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(images), BATCH):
        yield list(images[start : start + BATCH])


def _generate(image: Image.Image, text: str | None, network: Any = None, **options: Any) -> str:
    return _generate_all([image], text, network, **options)[0]


@torch.inference_mode()
def _generate_all(
    images: list[Image.Image], text: str | None, network: Any = None, **options: Any
) -> list[str]:
    """Generate for rows of the same length, which need no padding."""
    processor, own = _load()
    texts = None if text is None else [text] * len(images)
    inputs = processor(images=images, text=texts, return_tensors="pt")
    rows = (network or own).generate(**inputs, max_new_tokens=20, **options)
    # The output includes the image tokens, none of which is a word.
    decoded = processor.batch_decode(rows, skip_special_tokens=True)
    return [text.replace("<image>", "").strip() for text in decoded]


def scene_picture(seed: int = 3, side: int = 128) -> Image.Image:
    """Draw a scene of the demo's world whose truth is clear at this size."""
    rng = Random(seed)
    scene = random_scene(rng)
    while not is_clear(scene, side, side):
        scene = random_scene(rng)
    return draw(scene, side, side)


def noise() -> bytes:
    """Return a picture that no other test has sent: the worker keeps images that it has decoded."""
    file = io.BytesIO()
    Image.frombytes("RGB", (32, 32), os.urandom(32 * 32 * 3)).save(file, "PNG")
    return file.getvalue()
