"""The matching lane: rows that compare or embed images and texts in one or a few forward passes."""

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
from worker.engine.row import INVALID_TEXT, NOT_FINITE, Row, check_image
from worker.engine.scheduler import Scheduler

#: Maximum rows admitted in one step: a compromise of full batches and the other lanes' latency.
ROWS = 32
#: Maximum image-text pairs compared in one step: each needs the image's features in memory.
PAIRS = 32


@dataclass(slots=True)
class Pair:
    """A row's image with one of its texts."""

    row: Row
    index: int  # of the text
    tokens: list[int]


@dataclass(slots=True)
class Comparison:
    """A row whose texts are being compared."""

    row: Row
    scores: list[tuple[float, float]]
    remaining: int


class MatchingLane:
    """The lane of the tasks match and embed."""

    is_decoding = False

    def __init__(self, model: Matcher, encoder: Encoder) -> None:
        self.model, self.encoder = model, encoder
        self.scheduler: Scheduler[Row] = Scheduler(ROWS)
        self.admitted: list[Row] = []
        self._active: dict[int, Comparison] = {}
        self._pairs: deque[Pair] = deque()
        self._match_runner = Halving(self._match, PAIRS)
        self._image_embed_runner = Halving(self._embed_images, ROWS)
        self._text_embed_runner = Halving(self._embed_texts, ROWS)

    @property
    def active(self) -> int:
        return len(self._active)

    @property
    def waiting(self) -> int:
        return len(self.scheduler)

    def prepare(self, row: Row) -> Failure | None:
        """Set a row's texts and cached feature; return a Failure if the row cannot run."""
        request = row.request
        if request.image_hash:
            row.feature = self.encoder.cache.get(request.image_hash)
            failure = check_image(request, row.feature, self.model.frame)
            if failure is not None:
                return failure
        texts = request.texts if request.image_hash else (request.text,)
        for number, text in enumerate(texts, start=1):
            try:
                row.texts.append(self.model.tokens(text))
            except PromptTooLong as error:
                return Failure("prompt_too_long", f"Text {number}: {error}")
            except (TypeError, ValueError):
                return INVALID_TEXT
        return None

    def add(self, row: Row) -> None:
        self.scheduler.add(row)

    def promote(self, row: Row) -> None:
        self.scheduler.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Remove a waiting row. An active row is removed in the next step if it has failed."""
        return self.scheduler.remove(row)

    def step(self) -> list[Row]:
        """Admit rows if few pairs remain, compare a batch of pairs; return the ended rows."""
        ended = self._admit() if len(self._pairs) < PAIRS else []
        self._compare()
        for comparison in list(self._active.values()):
            row = comparison.row
            if not comparison.remaining or row.failure is not None:
                del self._active[row.number]
                row.scores, row.feature = tuple(comparison.scores), None
                ended.append(row)
        return ended

    def _admit(self) -> list[Row]:
        """Admit and encode rows; return those that end immediately: embeddings and failures."""
        rows = self.scheduler.admit()
        self.admitted += rows
        if not rows:
            return []
        self.encoder.run([row for row in rows if row.request.image_hash])
        encoded = [row for row in rows if row.failure is None]
        embed = [row for row in encoded if row.request.task == "embed"]
        self._embed([row for row in embed if row.request.image_hash], self._image_embed_runner)
        self._embed([row for row in embed if not row.request.image_hash], self._text_embed_runner)
        pairs = []
        for row in encoded:
            if row.request.task == "match":
                count = len(row.texts)
                self._active[row.number] = Comparison(row, [(0.0, 0.0)] * count, count)
                pairs += [Pair(row, index, tokens) for index, tokens in enumerate(row.texts)]
        # Texts of similar length share a forward pass, to reduce padding.
        self._pairs += sorted(pairs, key=lambda pair: len(pair.tokens))
        return [row for row in rows if row.number not in self._active]

    def _compare(self) -> None:
        """Compare one batch of pairs, without those of failed rows."""
        batch: list[Pair] = []
        while self._pairs and len(batch) < PAIRS:
            pair = self._pairs.popleft()
            if pair.row.failure is None:
                batch.append(pair)
        for part, result in self._match_runner.run(batch):
            if isinstance(result, Failure):
                part[0].row.failure = result
                continue
            for pair, score in zip(part, result.tolist(), strict=True):
                comparison = self._active[pair.row.number]
                comparison.scores[pair.index] = (score[0], score[1])
                comparison.remaining -= 1
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
