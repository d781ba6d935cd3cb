"""Random BLIP checkpoints, small enough to decode thousands of tokens, and their reference.

As in the published ones, BLIP's own two tokens lie outside BERT's vocabulary, texts end at
sep_token_id while eos_token_id is a word like others, and a captioning model may have a vision
model wider than its text model (as the large one; for VQA that is not possible).

This module does not use the worker.
"""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
)

IMAGE_SIZE = 32
PATCH = 8
POSITIONS = 96
SENTENCES = [
    "what color is the circle in the photo ? don ' t ! it is a red one , no blue and white square",
    "how many are there above and left of the green star on a white background ? two , yes",
    "what shape is right of the picture - a painting of a triangle",
]


def build_tokenizer() -> BertTokenizer:
    words = " ".join(SENTENCES).split()
    letters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", *words, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *"?!.,'[]-#"]
    tokens += [f"##{piece}" for piece in [*letters, "ing", "ed", "er"]]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return BertTokenizer(vocab=vocabulary, model_max_length=POSITIONS)


def build_config(tokenizer: BertTokenizer, vision_width: int) -> BlipConfig:
    words = len(tokenizer)
    return BlipConfig(
        text_config={
            "vocab_size": words + 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": words,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": vision_width,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
    )


def randomise(network: torch.nn.Module, end_id: int, end_bias: float) -> None:
    """Weights far from zero, so that rows differ by more than rounding, and ends now and then."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.4)
            if "crossattention.self.query" in name or "position_embeddings" in name:
                weight.mul_(2)  # answers must depend on the source and on the position
        decoder: Any = network.text_decoder
        decoder.cls.predictions.bias[end_id] += end_bias


def save_caption(path: Path) -> None:
    """A BlipForConditionalGeneration with its processor, as `save_pretrained` writes them."""
    _save(BlipForConditionalGeneration, path, 40, seed=9, end_bias=4.0)


def save_vqa(path: Path) -> None:
    """A BlipForQuestionAnswering with its processor."""
    _save(BlipForQuestionAnswering, path, 32, seed=4, end_bias=5.0)


def _save(network_class: type, path: Path, width: int, seed: int, end_bias: float) -> None:
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = BlipProcessor(images, build_tokenizer())
    processor.save_pretrained(path)
    torch.manual_seed(seed)
    network = network_class(build_config(processor.tokenizer, width))
    randomise(network, processor.tokenizer.sep_token_id, end_bias)
    network.eval().save_pretrained(path)


class Reference:
    """Plain transformers: BlipProcessor and `generate`, one row at a time."""

    def __init__(self, network_class: Any, path: Path) -> None:
        self.path, self.network = path, network_class.from_pretrained(path).eval()
        self.task = "vqa" if network_class is BlipForQuestionAnswering else "caption"
        self.processor: Any = BlipProcessor(
            BlipImageProcessorPil.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        )

    def answer(self, image: Image.Image, text: str, how: dict[str, Any]) -> tuple[str, int]:
        """Return the answer and its number of tokens."""
        how = dict(how)
        seed = how.pop("seed", None)
        if seed is not None:
            torch.manual_seed(seed)
        words = text if text or self.task == "vqa" else None
        inputs = self.processor(images=image, text=words, return_tensors="pt")
        given = 1 if self.task == "vqa" or words is None else inputs.input_ids.shape[1] - 1
        row = self.network.generate(**inputs, do_sample=seed is not None, **how)[0]
        shown = row[given:] if self.task == "vqa" else row
        decoded = self.processor.decode(shown, skip_special_tokens=True)
        return decoded.strip(), len(row) - given


def picture(number: int) -> Image.Image:
    generator = random.Random(number)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    image = Image.new("RGB", size, tuple(generator.randrange(256) for _ in range(3)))
    image.paste(tuple(generator.randrange(256) for _ in range(3)), (4, 2, 19, 21))
    image.paste(tuple(generator.randrange(256) for _ in range(3)), (15, 9, 30, 17))
    return image
