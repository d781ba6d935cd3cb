"""The engine: in-flight batching over one model. Start reading at `Engine.step`.

One thread calls everything. A step may raise only when the device itself is broken; the process
must end then. Otherwise every request that was added gets exactly one Answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.encoder import Encoder
from worker.engine.features import FeatureCache
from worker.engine.halving import Failure, Halving
from worker.engine.request import Answer, Request, RequestId
from worker.engine.row import CANCELLED, EXPIRED, NOT_FINITE, Row, problem
from worker.engine.sampler import BROKEN, Sampler
from worker.engine.scheduler import Scheduler
from worker.engine.warmup import measure_prefill_steps
from worker.models import LoadError, Model


@dataclass(slots=True)
class Figures:
    """Counters since the start, and what is so now."""

    steps: int = 0
    admitted: int = 0
    answered: int = 0
    failed: int = 0
    tokens: int = 0
    encoded_images: int = 0
    cache_hits: int = 0
    row_steps: int = 0  # rows summed over steps
    active: int = 0
    waiting: int = 0
    last_step_s: float = 0.0

    @property
    def mean_occupancy(self) -> float:
        """Rows in an average step."""
        return self.row_steps / self.steps if self.steps else 0.0


class Engine:
    """Requests in by `add`, answers out of `step`."""

    def __init__(
        self,
        model: Model,
        *,
        max_rows: int = 64,
        feature_bytes: int = 256 * 2**20,
        reserved_rows: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.clock = model, clock
        self.scheduler = Scheduler(max_rows, min(reserved_rows, max_rows - 1))
        self.features = FeatureCache(feature_bytes)
        self.encoder = Encoder(model, self.features)
        self.slots = model.new_slots(max_rows)
        self.sampler = Sampler(model.vocab_size, model.eos_ids, model.device, model.suppressed_ids)
        self.figures = Figures()
        self._eos = frozenset(model.eos_ids)
        self._live: dict[RequestId, Row] = {}  # waiting and active
        self._rows: list[Row] = []  # row i decodes in slot i
        self._answers: list[Answer] = []
        self._prefiller = Halving(self._prefill_rows, max_rows)
        self._decoder = Halving(self._decode_rows, max_rows)
        self._no_logits = torch.full((1, model.vocab_size), torch.nan, device=model.device)

    @property
    def idle(self) -> bool:
        """Nothing waits, decodes or stands ready to be delivered."""
        return not (self._live or self._answers)

    def add(self, request: Request) -> None:
        """Queue a request. What is wrong with it comes back from the next step."""
        if request.id in self._live:
            raise ValueError(f"request id {request.id!r} is already in the engine")
        row = self._live[request.id] = Row(request, [], self.features.get(request.image_hash))
        row.failure = problem(row, self.model)
        if row.failure is None:
            self.scheduler.add(request)
        else:
            self._answer(row)

    def cancel(self, request_id: RequestId) -> None:
        """End a request early with the error `cancelled`. Unknown ids are ignored."""
        row = self._live.get(request_id)
        if row is None:
            return
        row.failure = CANCELLED  # an active row leaves at the next step
        if self.scheduler.remove(request_id) is not None:
            self._answer(row)

    def has_features(self, hashes: Iterable[str]) -> set[str]:
        """Which of these images need not be sent again. Safe from any thread."""
        return {image_hash for image_hash in hashes if image_hash in self.features}

    def warm_up(self) -> None:
        """Run every kernel once and measure what a prefill costs. Raises LoadError."""
        try:
            self.scheduler.prefill_steps = measure_prefill_steps(self.model, self.slots)
        except torch.OutOfMemoryError as error:
            raise LoadError(
                f"{self.slots.rows} rows of {self.model.name!r} do not fit the memory of"
                f" {self.model.device}; use fewer rows or a smaller precision."
            ) from error

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """Admit, encode, prefill, give every row one token, deliver. Call while not `idle`."""
        started = self.clock()
        self._expire(started)
        newcomers = self._encode(self._admit())
        logits = self._decode() + self._prefill(newcomers)
        if logits:
            self._take_tokens(torch.cat(logits))
        return self._deliver(started)

    def _expire(self, now: float) -> None:
        """Answer what is out of time, and free the slots of rows that are over."""
        for request in self.scheduler.expire(now):
            row = self._live[request.id]
            row.failure = EXPIRED
            self._answer(row)
        for row in self._rows:
            deadline = row.request.deadline
            if deadline is not None and deadline <= now:
                row.failure = row.failure or EXPIRED
        self._leave([i for i, row in enumerate(self._rows) if row.failure is not None])

    def _admit(self) -> list[Row]:
        bulk = sum(not row.request.interactive for row in self._rows)
        requests = self.scheduler.admit(len(self._rows), bulk)
        self.figures.admitted += len(requests)
        return [self._live[request.id] for request in requests]

    def _encode(self, rows: list[Row]) -> list[Row]:
        """Give newcomers the features of their images; returns the rows that have them."""
        self.encoder.run(rows)
        self.figures.encoded_images = self.encoder.images
        self.figures.cache_hits = self.encoder.hits
        for row in rows:
            if row.failure is not None:
                self._answer(row)
        return [row for row in rows if row.failure is None]

    def _prefill(self, rows: list[Row]) -> list[Tensor]:
        """Append newcomers to the active rows. Their first logits, in order."""
        logits = []
        for batch, result in self._prefiller.run(rows):
            if isinstance(result, Failure):
                batch[0].failure = result
                self._answer(batch[0])
                continue
            logits.append(result)
            for row in batch:
                self.sampler.add(row.request.options, row.prompt)
                row.feature = None
            self._rows += batch
        return logits

    def _prefill_rows(self, rows: Sequence[Row]) -> Tensor:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        return self.model.prefill(features, [row.prompt for row in rows], self.slots)

    def _decode(self) -> list[Tensor]:
        """The next logits of every active row, in order."""
        logits = []
        for rows, result in self._decoder.run(range(len(self._rows))):
            if isinstance(result, Failure):
                self._rows[rows[0]].failure = result
                result = self._no_logits
            logits.append(result)
        self.slots.advance()
        return logits

    def _decode_rows(self, rows: Sequence[int]) -> Tensor:
        return self.model.decode(self.slots, rows[0], rows[-1] + 1)

    def _take_tokens(self, logits: Tensor) -> None:
        """Choose each row's next token; rows that end by it leave."""
        chosen = self.sampler.sample(logits)
        self.slots.tokens[: len(self._rows)] = chosen
        tokens = chosen.tolist()  # the one place where a step waits for the device
        self.sampler.observe(tokens)
        leaving = []
        for i, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if token == BROKEN:
                row.failure = row.failure or NOT_FINITE
                self.slots.scrub(i)
                leaving.append(i)
                continue
            row.tokens.append(token)
            if token in self._eos or len(row.tokens) == row.request.options.max_new_tokens:
                leaving.append(i)
        self.figures.row_steps += len(tokens)
        self._leave(leaving)

    def _leave(self, leaving: list[int]) -> None:
        """Answer these rows; the last rows take their slots."""
        if not leaving:
            return
        for i in leaving:
            self._answer(self._rows[i])
        order = self.slots.drop(leaving)
        self.sampler.reorder(order)
        self._rows = [self._rows[i] for i in order]

    def _answer(self, row: Row) -> None:
        request, failure = row.request, row.failure
        del self._live[request.id]
        self.figures.answered += 1
        self.figures.tokens += len(row.tokens)
        if failure is None:
            text = self.model.text(request.task, row.prompt, row.tokens)
            self._answers.append(Answer(request.id, text, len(row.tokens)))
        else:
            self.figures.failed += 1
            self._answers.append(
                Answer(request.id, error_code=failure.code, error_message=failure.message)
            )

    def _deliver(self, started: float) -> list[Answer]:
        figures = self.figures
        figures.steps += 1
        figures.active, figures.waiting = len(self._rows), len(self.scheduler)
        figures.last_step_s = self.clock() - started
        answers, self._answers = self._answers, []
        return answers
