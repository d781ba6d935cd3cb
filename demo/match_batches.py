"""Training batches of the retrieval model: fresh scenes, each encoded once for all its texts.

A picture's texts share a row. A text sees itself, at the positions that it has at inference,
and the picture, so a packed text is judged exactly as it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertTokenizer

from demo.batches import planned_scene, squash
from demo.match_texts import Text, caption, confusions, errors, phrases
from demo.scenes import BACKGROUNDS, COLORS, KINDS, Scene, random_picture
from demo.schedule import Plan

#: The mark of a word, or of an entry of the batch, without a verdict.
IGNORED = -1

#: Texts of each picture, at most: its caption, five errors, a confusion, a phrase.
TEXTS = 8

#: The words that say something of a picture.
NAMES = frozenset({*COLORS, *KINDS, *BACKGROUNDS, "left", "above"})


class MatchBatch(NamedTuple):
    """A batch of B pictures and their texts, K of each at most, L tokens in all at most."""

    pixels: Tensor  #: uint8 (B, 3, 64, 64)
    tokens: Tensor  #: (B, L)
    positions: Tensor  #: (B, L)
    segments: Tensor  #: (B, L): the number of the text, from 0; -1 padding
    right: Tensor  #: (B, L): 1 a word that is right, 0 one that is wrong, or IGNORED
    starts: Tensor  #: (B, K): where each text begins
    true: Tensor  #: (B, K): 1 true of the picture, 0 not, or IGNORED where there is no text
    captions: Tensor  #: (B, K): numbers of whole captions, equal if the texts are; or IGNORED


class MatchScenes(Dataset[MatchBatch]):
    """A data set whose batch number `step` depends on (seed, step) alone."""

    def __init__(self, tokenizer: BertTokenizer, seed: int, plans: list[Plan]) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.plans = plans
        self.cache: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, step: int) -> MatchBatch:
        rng = Random(f"match/{self.seed}/{step}")
        plan = self.plans[step]
        pictures, rows = [], []
        for _ in range(plan.pictures):
            scene = planned_scene(rng, plan)
            # Small pictures are drawn sooner, and the processor shrinks large ones anyway.
            largest = 640 if rng.random() < 0.04 else 160
            pictures.append(squash(random_picture(rng, scene, largest)))
            rows.append(choose_texts(rng, scene))
        return pack(np.stack(pictures), rows, self._encode)

    def _encode(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.tokenizer(text)["input_ids"]
        return self.cache[text]


def choose_texts(rng: Random, scene: Scene) -> list[Text]:
    """Choose the caption, each kind of error, a confusion and a phrase."""
    confused, phrase = rng.choice(confusions(rng, scene)), rng.choice(phrases(rng, scene))
    return [caption(scene), *errors(rng, scene), confused, phrase]


def pack(
    pictures: np.ndarray, rows: list[list[Text]], encode: Callable[[str], list[int]]
) -> MatchBatch:
    """Make a row for each picture: its texts one after another."""
    encoded = [[encode(text.text) for text in row] for row in rows]
    length = max(sum(map(len, row)) for row in encoded)
    tokens, positions = (np.zeros((len(rows), length), np.int64) for _ in range(2))
    segments, right = (np.full((len(rows), length), -1) for _ in range(2))
    starts = np.zeros((len(rows), TEXTS), np.int64)
    true, captions = (np.full((len(rows), TEXTS), IGNORED) for _ in range(2))
    numbers: dict[str, int] = {}
    for row, texts in enumerate(rows):
        end = 0
        for number, (text, ids) in enumerate(zip(texts, encoded[row], strict=True)):
            start, end = end, end + len(ids)
            tokens[row, start:end], positions[row, start:end] = ids, np.arange(len(ids))
            segments[row, start:end] = number
            right[row, start:end] = judged(text)
            starts[row, number], true[row, number] = start, text.true
            if "phrase" not in text.kind:
                captions[row, number] = numbers.setdefault(text.text, len(numbers))
    arrays = (pictures, tokens, positions, segments, right, starts, true, captions)
    return MatchBatch(*(torch.from_numpy(array) for array in arrays))


def judged(text: Text) -> list[int]:
    """Mark each token, [CLS] and [SEP] included: 1 right, 0 wrong, IGNORED undecided."""
    words = text.text.split()
    marks = [IGNORED] * len(words)
    if text.true or text.kind in ("color", "shape", "background"):
        marks = [1 if word in NAMES else IGNORED for word in words]
    if text.wrong is not None:
        marks[text.wrong] = 0
    return [IGNORED, *marks, IGNORED]


def attention(segments: Tensor) -> Tensor:
    """Return the mask (B, 1, query, key) added to the scores: no text attends to another."""
    apart = segments[:, None, :, None] != segments[:, None, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, torch.finfo(torch.float32).min)
