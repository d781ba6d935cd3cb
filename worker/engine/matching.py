"""Comparing images and texts: rows that need one pass, or a few where they have many texts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.encoder import Encoder
from worker.engine.errors import PromptTooLong
from worker.engine.halving import Failure, Halving
from worker.engine.model import Matcher
from worker.engine.row import NO_TEXT, NOT_FINITE, Row, wrong_image
from worker.engine.scheduler import Scheduler

#: Rows taken in one step: a compromise between full batches and those who wait meanwhile.
ROWS = 32
#: Pairs of an image and a text in one step: each needs the image's features in memory.
PAIRS = 32


@dataclass(slots=True)
class Pair:
    """An image with one of the texts that it is compared with."""

    row: Row
    place: int
    tokens: list[int]


@dataclass(slots=True)
class Comparison:
    """A row whose texts are being compared."""

    row: Row
    scores: list[tuple[float, float]]
    missing: int


class MatchingLane:
    """Rows of the tasks match and embed."""

    def __init__(self, model: Matcher, encoder: Encoder) -> None:
        self.model, self.encoder = model, encoder
        self.scheduler: Scheduler[Row] = Scheduler(ROWS)
        self._begun: dict[int, Comparison] = {}
        self._pairs: deque[Pair] = deque()
        self._matcher = Halving(self._match, PAIRS)
        self._image_embedder = Halving(self._embed_images, ROWS)
        self._text_embedder = Halving(self._embed_texts, ROWS)

    @property
    def active(self) -> int:
        return len(self._begun)

    @property
    def waiting(self) -> int:
        return len(self.scheduler)

    def prepare(self, row: Row) -> Failure | None:
        """What keeps a row from ever being run, or None. Fills in its texts and its feature."""
        request = row.request
        if request.image_hash:
            row.feature = self.encoder.cache.get(request.image_hash)
            problem = wrong_image(request, row.feature, self.model.image_size)
            if problem is not None:
                return problem
        texts = request.texts if request.image_hash else (request.text,)
        for place, text in enumerate(texts):
            try:
                row.texts.append(self.model.tokens(text))
            except PromptTooLong as error:
                return Failure("prompt_too_long", f"Text {place + 1}: {error}")
            except (TypeError, ValueError):
                return NO_TEXT
        return None

    def add(self, row: Row) -> None:
        self.scheduler.add(row)

    def promote(self, row: Row) -> None:
        self.scheduler.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Take out a row that waits. One that is active leaves at the next step: it has failed."""
        return self.scheduler.remove(row)

    def step(self) -> list[Row]:
        """Take the next rows where there is little left to do, and compare one batch of pairs."""
        ended = self._begin() if len(self._pairs) < PAIRS else []
        self._compare()
        over = [
            one for one in self._begun.values() if not one.missing or one.row.failure is not None
        ]
        for one in over:
            del self._begun[one.row.number]
            one.row.scores, one.row.feature = tuple(one.scores), None
        return ended + [one.row for one in over]

    def _begin(self) -> list[Row]:
        """Encode the images of new rows; returns those that end by it, embeddings among them."""
        rows = self.scheduler.admit()
        if not rows:
            return []
        self.encoder.run([row for row in rows if row.request.image_hash])
        good = [row for row in rows if row.failure is None]
        embed = [row for row in good if row.request.task == "embed"]
        self._embed([row for row in embed if row.request.image_hash], self._image_embedder)
        self._embed([row for row in embed if not row.request.image_hash], self._text_embedder)
        pairs = []
        for row in good:
            if row.request.task == "match":
                count = len(row.texts)
                self._begun[row.number] = Comparison(row, [(0.0, 0.0)] * count, count)
                pairs += [Pair(row, place, tokens) for place, tokens in enumerate(row.texts)]
        # Texts of like length share a pass, so that little of it is padding.
        self._pairs += sorted(pairs, key=lambda one: len(one.tokens))
        return [row for row in rows if row.number not in self._begun]

    def _compare(self) -> None:
        """One batch of pairs; those of rows that have failed are left out."""
        batch: list[Pair] = []
        while self._pairs and len(batch) < PAIRS:
            pair = self._pairs.popleft()
            if pair.row.failure is None:
                batch.append(pair)
        for part, result in self._matcher.run(batch):
            if isinstance(result, Failure):
                part[0].row.failure = result
                continue
            for pair, score in zip(part, result.tolist(), strict=True):
                comparison = self._begun[pair.row.number]
                comparison.scores[pair.place] = (score[0], score[1])
                comparison.missing -= 1
                if not all(map(math.isfinite, score)):
                    pair.row.failure = NOT_FINITE

    def _match(self, pairs: Sequence[Pair]) -> Tensor:
        features = torch.stack([pair.row.feature for pair in pairs if pair.row.feature is not None])
        return torch.stack(self.model.match(features, [pair.tokens for pair in pairs]), dim=1)

    def _embed(self, rows: list[Row], embedder: Halving[Row, Tensor]) -> None:
        for batch, result in embedder.run(rows):
            if isinstance(result, Failure):
                batch[0].failure = result
                continue
            for row, vector in zip(batch, result.tolist(), strict=True):
                row.embedding, row.feature = tuple(vector), None
                if not all(map(math.isfinite, vector)):
                    row.failure = NOT_FINITE

    def _embed_images(self, rows: Sequence[Row]) -> Tensor:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        return self.model.embed_images(features)

    def _embed_texts(self, rows: Sequence[Row]) -> Tensor:
        return self.model.embed_texts([row.texts[0] for row in rows])
