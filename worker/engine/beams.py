"""Beam search by transformers' own `generate`, in groups of rows with equal options.

The prompts of a group have equal lengths, so there is no padding and the batch does not change a
row's result. Sampled beams are drawn with each row's own generator. A group advances by one token
in each step of the engine, in addition to the rows that are decoded in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import replace

import torch

from worker.engine.decoding import prepare_prompt
from worker.engine.device import check_free
from worker.engine.encoder import Encoder
from worker.engine.halving import Failure, failure_of
from worker.engine.model import Generator, TokenSequence
from worker.engine.multinomial import RowMultinomial, seeded_generator
from worker.engine.request import GenerationOptions
from worker.engine.row import NOT_FINITE, Row, check_image
from worker.engine.scheduler import Scheduler
from worker.engine.thread_coroutine import Suspend, ThreadCoroutine

#: The sequences of each row.
Beams = list[list[TokenSequence]]


class BeamLane:
    """The lane of rows with `num_beams` above 1; runs one group at a time.

    `token_bytes` is the size of a position's keys and values.
    """

    def __init__(self, model: Generator, encoder: Encoder, max_rows: int, token_bytes: int) -> None:
        self.model, self.encoder, self.max_rows = model, encoder, max_rows
        self.token_bytes = token_bytes
        #: Maximum images encoded when a group starts.
        self.max_images = max_rows
        self._groups: dict[Hashable, Scheduler[Row]] = {}
        #: Halves of groups that failed; they run before anything else.
        self._retries: deque[list[Row]] = deque()
        self._rows: list[Row] = []
        self._search: ThreadCoroutine[Beams] | None = None

    @property
    def active(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._groups.values())) + sum(map(len, self._retries))

    def prepare(self, row: Row) -> Failure | None:
        """Set a row's prompt and cached feature; return a Failure if the row cannot run."""
        row.feature = self.encoder.cache.get(row.request.image_hash)
        return check_image(row.request, row.feature, self.model.frame) or prepare_prompt(
            row, self.model
        )

    def add(self, row: Row) -> None:
        # Rows with different seeds share a group.
        options = replace(row.options, seed=None)
        parts = (row.prompt.start, row.prompt.source, row.prompt.query)
        key = (options, *(part and len(part) for part in parts))
        if key not in self._groups:
            # On the device, every beam is a row.
            self._groups[key] = Scheduler(max(1, self.max_rows // options.num_beams))
            self._groups[key].max_images = self.max_images
        self._groups[key].add(row)

    def promote(self, row: Row) -> None:
        for group in self._groups.values():
            group.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Remove a row whose group has not started."""
        return any(group.remove(row) for group in self._groups.values())

    def step(self) -> list[Row]:
        """Start the next group if none runs, advance it by one token, and return the ended rows."""
        ended: list[Row] = []
        if self._search is None:
            ended += self._start_group()
        if self._search is not None:
            if all(row.failure is not None for row in self._rows):
                self._search.stop()
            if self._search.step():
                ended += self._end_group(self._search)
        return ended

    def _start_group(self) -> list[Row]:
        """Admit the next group and encode its images; return the rows that failed."""
        rows = self._retries.popleft() if self._retries else self._admit()
        if not rows:
            return []
        self.encoder.run(rows)
        for row in rows:
            # Beam search would return an empty text for features that are not finite.
            if row.feature is not None and not row.feature.isfinite().all():
                row.failure = row.failure or NOT_FINITE
        self._rows = [row for row in rows if row.failure is None]
        if self._rows:
            self._search = ThreadCoroutine(self._generate)
        return [row for row in rows if row.failure is not None]

    def _admit(self) -> list[Row]:
        """Admit the rows of a group with interactive rows, or else of the oldest group."""
        self._groups = {key: group for key, group in self._groups.items() if len(group)}
        interactive = [group for group in self._groups.values() if group.has_interactive]
        for group in [*interactive, *self._groups.values()]:
            return group.admit()
        return []

    @torch.inference_mode()
    def _generate(self, suspend: Suspend) -> Beams:
        features = torch.stack([row.feature for row in self._rows if row.feature is not None])
        prompts = [row.prompt for row in self._rows]
        device, options = self.model.device, self._rows[0].options
        tokens = sum(row_tokens(row) for row in self._rows) * options.num_beams
        check_free(tokens * self._token_bytes(options), device, "the tensors of a beam search")
        with ExitStack() as stack:
            if device.type == "cuda":
                # CUDA's current device is set per thread.
                stack.enter_context(torch.cuda.device(device))
            if options.temperature > 0:
                seeds = [seeded_generator(row.options, device) for row in self._rows]
                stack.enter_context(RowMultinomial(seeds))
            inputs = self.model.condition(features, prompts)
            return self.model.decoder.generate(
                inputs, prompts, options, suspend, self._rows[0].stop
            )

    def _token_bytes(self, options: GenerationOptions) -> int:
        """Return the bytes of a beam's position: keys, values, and scores of all tokens."""
        score_bytes = 4 * self.model.decoder.vocab_size if options.output_scores else 0
        return self.token_bytes + score_bytes

    def _end_group(self, search: ThreadCoroutine[Beams]) -> list[Row]:
        rows, self._rows, self._search = self._rows, [], None
        try:
            generated = search.result()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # `generate` also raises errors for its arguments
            return self._retry_halves(rows, failure_of(error))
        for row, sequences in zip(rows, generated, strict=True):
            row.feature = None
            row.finish(self.model, sequences)
        return rows

    def _retry_halves(self, rows: list[Row], failure: Failure) -> list[Row]:
        """Queue both halves of a failed group; return a single row with its failure."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            rows[0].failure = rows[0].failure or failure
            return rows
        middle = len(rows) // 2
        self._retries.extendleft([rows[middle:], rows[:middle]])
        return []


def row_tokens(row: Row) -> int:
    """Return the positions of a row: its prompt, its answer and its source."""
    prompt, new = row.prompt, row.options.max_new_tokens
    return len(prompt.start) + new + len(prompt.source or ())
