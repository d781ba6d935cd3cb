"""Training batches: fresh scenes, packed so that each picture is encoded once.

A picture's caption and questions share one row: its image tokens come first, then a
segment for each text. A text sees the image tokens and itself, at the positions that it
has at inference, so a packed text scores exactly as it would alone.
"""

from __future__ import annotations

import math
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Tokenizer

from demo.architecture import IMAGE_SIZE, QUERY_TOKENS
from demo.articles import indefinite
from demo.dialogues import PROMPT, TURN_END
from demo.scenes import Question, Scene, random_picture, random_scene
from demo.schedule import Plan

IGNORED = -100

#: Questions of a dialogue, at most.
MAX_TURNS = 4

#: Least distance along one axis, as a share of the picture, at which an order is plain.
PLAIN_OFFSET = 0.1

#: The weight of each kind of question. Presence is the hardest to learn, and its exchanged
#: pair ("is there a red square?" of a red circle and a blue square) the hardest of all.
WEIGHTS = {
    "count": 0.4,
    "background": 0.4,
    "shape": 0.8,
    "left": 0.8,
    "top": 0.8,
    "color": 1.0,
    "shape of color": 1.2,
    "present": 2.0,
    "exchanged": 1.5,
    "one differs": 1.5,
    "both differ": 0.5,
}


class Batch(NamedTuple):
    """A batch of B pictures and their texts, L tokens at most (image tokens included)."""

    pixels: Tensor  #: uint8 (B, 3, 64, 64)
    tokens: Tensor  #: (B, L); the image's places hold 0
    positions: Tensor  #: (B, L)
    segments: Tensor  #: (B, L): 0 the image, 1 and up its texts, -1 padding
    labels: Tensor  #: (B, L): the token to follow, or IGNORED
    places: Tensor  #: (B, 4): x and y of the first and the second shape; NaN where there is none


class Text(NamedTuple):
    """The tokens of a caption, or of a dialogue of one to four turns."""

    tokens: list[int]
    labels: list[int]  #: the token to follow each, or IGNORED


class Scenes(Dataset[Batch]):
    """A data set whose batch number `step` depends on (seed, step) alone."""

    def __init__(self, tokenizer: GPT2Tokenizer, seed: int, plans: list[Plan]) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.plans = plans
        self.cache: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, step: int) -> Batch:
        rng = Random(f"{self.seed}/{step}")
        plan = self.plans[step]
        pictures, rows, places = [], [], []
        for _ in range(plan.pictures):
            scene = planned_scene(rng, plan)
            # Small pictures are drawn sooner, and the processor shrinks large ones anyway.
            largest = 640 if rng.random() < 0.04 else 160
            pictures.append(squash(random_picture(rng, scene, largest)))
            rows.append(self._texts(rng, scene, plan))
            places.append(places_of(scene))
        return pack(np.stack(pictures), rows, np.array(places, np.float32))

    def _texts(self, rng: Random, scene: Scene, plan: Plan) -> list[Text]:
        """Return the caption, and questions one by one or in dialogues."""
        texts = [self.text([("", scene.caption())])]
        questions = choose_questions(rng, scene, plan.questions)
        if plan.both_sides:
            questions = [*sides(scene), *questions]
        if plan.lookups:
            questions += choose_lookups(rng, scene, plan.lookups)
        questions = list({question.question: question for question in questions}.values())
        rng.shuffle(questions)
        lengths = [1] * len(questions)
        if rng.random() < plan.dialogues:
            lengths = dialogue_lengths(rng, len(questions))
        turns = iter([(PROMPT.format(question=q.question), f" {q.answer}") for q in questions])
        return texts + [self.text(list(islice(turns, length))) for length in lengths]

    def text(self, turns: list[tuple[str, str]]) -> Text:
        """Lay out a dialogue: each answer is to be learned, and each ends where it does alone."""
        end = self.tokenizer.eos_token_id
        tokens: list[int] = []
        labels: list[int] = []
        for number, (prompt, answer) in enumerate(turns):
            question = self._encode(TURN_END + prompt)[1:] if number else self._encode(prompt)
            learned = self._encode(answer)[1:]
            tokens += [*question, *learned]
            labels += [*[IGNORED] * (len(question) - 1), *learned, end]
        return Text(tokens, labels)

    def _encode(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.tokenizer(text)["input_ids"]
        return self.cache[text]


def dialogue_lengths(rng: Random, questions: int) -> list[int]:
    """Divide questions into dialogues of two to four turns; a last one may stand alone."""
    lengths = []
    while questions:
        lengths.append(min(questions, rng.randint(2, MAX_TURNS)))
        questions -= lengths[-1]
    return lengths


def planned_scene(rng: Random, plan: Plan) -> Scene:
    """Draw a scene that the plan admits."""
    count = 2 if rng.random() < plan.two_shapes else 1
    while True:
        scene = random_scene(rng, count)
        large = min(shape.radius for shape in scene.shapes) >= plan.min_radius
        if large and slope(scene) <= plan.max_slope:
            return scene


def slope(scene: Scene) -> float:
    """Return the slope of the line between the shapes from its axis; 0 for a single shape."""
    first, last = scene.shapes[0], scene.shapes[-1]
    minor, major = sorted((abs(last.x - first.x), abs(last.y - first.y)))
    return minor / major if major else 0.0


def sides(scene: Scene) -> list[Question]:
    """Ask for the left and for the upper shape of two, wherever each is plain to see.

    The world asks only along the axis that dominates, and then x + y alone tells which
    shape comes first. Asked both ways, the model has to learn x and y apart, without
    which it cannot tell "left of" from "above".
    """
    if len(scene.shapes) == 1:
        return []
    first, second = scene.shapes
    leftmost = min(scene.shapes, key=lambda shape: shape.x)
    highest = min(scene.shapes, key=lambda shape: shape.y)
    questions = []
    if abs(first.x - second.x) >= PLAIN_OFFSET:
        questions.append(Question("left", "what is on the left?", indefinite(leftmost.name)))
    if abs(first.y - second.y) >= PLAIN_OFFSET:
        questions.append(Question("top", "what is on top?", indefinite(highest.name)))
    return questions


def places_of(scene: Scene) -> list[float]:
    """Return x and y of the first and of the second shape; NaN where there is none."""
    coordinates = [value for shape in scene.shapes for value in (shape.x, shape.y)]
    return (coordinates + [math.nan] * 4)[:4]


def choose_questions(rng: Random, scene: Scene, count: int) -> list[Question]:
    """Draw different questions, their kinds by `WEIGHTS`."""
    by_kind: dict[str, list[Question]] = {}
    for question in scene.questions():
        by_kind.setdefault(question.kind, []).append(question)
    kinds = list(by_kind)
    drawn = rng.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=count)
    return list(dict.fromkeys(rng.choice(by_kind[kind]) for kind in drawn))


def choose_lookups(rng: Random, scene: Scene, count: int) -> list[Question]:
    """Draw different questions for the color of a kind, or for the kind of a color."""
    lookups = [q for q in scene.questions() if q.kind in ("color", "shape of color")]
    return rng.sample(lookups, min(count, len(lookups)))


def squash(picture: Image.Image) -> np.ndarray:
    """Resize as the processor does: uint8 (3, 64, 64)."""
    small = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(small).transpose(2, 0, 1)


def pack(pictures: np.ndarray, rows: list[list[Text]], places: np.ndarray) -> Batch:
    """Make one row for each picture: image tokens, then its texts one after another."""
    length = QUERY_TOKENS + max(sum(len(text.tokens) for text in row) for row in rows)
    shape = (len(rows), length)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    segments, labels = np.full(shape, -1), np.full(shape, IGNORED)
    positions[:, :QUERY_TOKENS] = np.arange(QUERY_TOKENS)
    segments[:, :QUERY_TOKENS] = 0
    for row, texts in enumerate(rows):
        start = QUERY_TOKENS
        for segment, text in enumerate(texts, start=1):
            end = start + len(text.tokens)
            tokens[row, start:end] = text.tokens
            positions[row, start:end] = QUERY_TOKENS + np.arange(len(text.tokens))
            segments[row, start:end] = segment
            labels[row, start:end] = text.labels
            start = end
    arrays = (pictures, tokens, positions, segments, labels, places)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def attention(segments: Tensor) -> Tensor:
    """Return the mask (B, 1, query, key): a token sees the image and its own text before it."""
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return causal & ((query == key) | (key == 0))
