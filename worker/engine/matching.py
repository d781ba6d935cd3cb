"""Comparing images and texts: rows that need one pass, taken in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.encoder import Encoder
from worker.engine.halving import Failure, Halving
from worker.engine.row import NO_TEXT, Row, wrong_image
from worker.engine.scheduler import Scheduler
from worker.models import Matcher, PromptTooLong

#: Rows taken in one step: a compromise between full batches and those who wait meanwhile.
ROWS = 32
#: Pairs of an image and a text in one pass: each needs the image's features in memory.
PAIRS = 32


@dataclass(slots=True)
class Pair:
    """An image with one of the texts that it is compared with."""

    row: Row
    tokens: list[int]
    score: tuple[float, float] = (0.0, 0.0)


class MatchingLane:
    """Rows of the tasks match and embed."""

    def __init__(self, model: Matcher, encoder: Encoder) -> None:
        self.model, self.encoder = model, encoder
        self.scheduler: Scheduler[Row] = Scheduler(ROWS)
        self.active = 0
        self._matcher = Halving(self._match, PAIRS)
        self._image_embedder = Halving(self._embed_images, PAIRS)
        self._text_embedder = Halving(self._embed_texts, PAIRS)

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
        try:
            row.texts = [self.model.tokens(text) for text in texts]
        except PromptTooLong as error:
            return Failure("prompt_too_long", str(error))
        except (TypeError, ValueError):
            return NO_TEXT
        return None

    def add(self, row: Row) -> None:
        self.scheduler.add(row)

    def promote(self, row: Row) -> None:
        self.scheduler.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Take out a row that waits."""
        return self.scheduler.remove(row)

    def step(self) -> list[Row]:
        """Answer the rows that come next."""
        rows = self.scheduler.admit()
        if not rows:
            return []
        self.encoder.run([row for row in rows if row.request.image_hash])
        good = [row for row in rows if row.failure is None]
        self._score([row for row in good if row.request.task == "match"])
        embed = [row for row in good if row.request.task == "embed"]
        self._embed([row for row in embed if row.request.image_hash], self._image_embedder)
        self._embed([row for row in embed if not row.request.image_hash], self._text_embedder)
        for row in rows:
            row.feature = None
        return rows

    def _score(self, rows: list[Row]) -> None:
        pairs = [[Pair(row, tokens) for tokens in row.texts] for row in rows]
        # Texts of like length share a pass, so that little of it is padding.
        every = sorted((pair for own in pairs for pair in own), key=lambda one: len(one.tokens))
        for batch, result in self._matcher.run(every):
            if isinstance(result, Failure):
                batch[0].row.failure = result
                continue
            for pair, (probability, cosine) in zip(batch, result.tolist(), strict=True):
                pair.score = (probability, cosine)
        for row, own in zip(rows, pairs, strict=True):
            row.scores = tuple(pair.score for pair in own)

    def _match(self, pairs: Sequence[Pair]) -> Tensor:
        features = torch.stack([pair.row.feature for pair in pairs if pair.row.feature is not None])
        return torch.stack(self.model.match(features, [pair.tokens for pair in pairs]), dim=1)

    def _embed(self, rows: list[Row], embedder: Halving[Row, Tensor]) -> None:
        for batch, result in embedder.run(rows):
            if isinstance(result, Failure):
                batch[0].failure = result
                continue
            for row, vector in zip(batch, result.tolist(), strict=True):
                row.embedding = tuple(vector)

    def _embed_images(self, rows: Sequence[Row]) -> Tensor:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        return self.model.embed_images(features)

    def _embed_texts(self, rows: Sequence[Row]) -> Tensor:
        return self.model.embed_texts([row.texts[0] for row in rows])
