"""The reference: plain transformers, one row at a time, written without the worker's code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, Blip2ForConditionalGeneration

MODEL = Path(__file__).resolve().parents[2] / "demo" / "model"


@cache
def _loaded() -> tuple[Any, Any]:
    network = Blip2ForConditionalGeneration.from_pretrained(MODEL).eval()
    return AutoProcessor.from_pretrained(MODEL), network


def caption(image: Image.Image, prompt: str = "", **how: Any) -> str:
    """A caption of 20 new tokens at most, greedy unless `how` says otherwise."""
    text = _generate(image, prompt or None, **how)
    return text if not prompt else text[text.index(prompt) :]


def answer(image: Image.Image, question: str) -> str:
    """A greedy answer."""
    asked = f"Question: {question} Answer:"
    return _generate(image, asked).removeprefix(asked).strip()


@torch.inference_mode()
def _generate(image: Image.Image, text: str | None, **how: Any) -> str:
    processor, network = _loaded()
    inputs = processor(images=image, text=text, return_tensors="pt")
    ids = network.generate(**inputs, max_new_tokens=20, **how)
    # The whole row comes back, image tokens included; none of them is a word.
    decoded: str = processor.decode(ids[0], skip_special_tokens=True)
    return decoded.replace("<image>", "").strip()
