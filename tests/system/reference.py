"""The reference: plain transformers, one row at a time, written without the worker's code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, Blip2ForConditionalGeneration

from demo.scenes import draw, is_clear, random_scene

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


def answer(image: Image.Image, question: str) -> str:
    """Return a greedy answer."""
    prompt = f"Question: {question} Answer:"
    return _generate(image, prompt).removeprefix(prompt).strip()


@torch.inference_mode()
def _generate(image: Image.Image, text: str | None, network: Any = None, **options: Any) -> str:
    processor, own = _load()
    network = network or own
    inputs = processor(images=image, text=text, return_tensors="pt")
    ids = network.generate(**inputs, max_new_tokens=20, **options)
    # The output includes the image tokens, none of which is a word.
    decoded: str = processor.decode(ids[0], skip_special_tokens=True)
    return decoded.replace("<image>", "").strip()


def scene_picture(seed: int = 3, side: int = 128) -> Image.Image:
    """Draw a scene of the demo's world whose truth is clear at this size."""
    rng = Random(seed)
    scene = random_scene(rng)
    while not is_clear(scene, side, side):
        scene = random_scene(rng)
    return draw(scene, side, side)
