"""In-flight batching: at every step finished rows leave, waiting rows join, each row gets a token.

Start reading at `DecodingLane.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from worker.engine.encoder import Encoder
from worker.engine.errors import PromptTooLong
from worker.engine.graphs import GraphedDecode
from worker.engine.halving import Failure, Halving
from worker.engine.model import Generator
from worker.engine.row import NO_TEXT, NOT_FINITE, Row, wrong_image
from worker.engine.sampler import NOT_FINITE_TOKEN, Sampler
from worker.engine.scheduler import Scheduler

#: Tokens with padding to tokens without, in one prefill.
MOST_PADDED = 2


class DecodingLane:
    """Rows that are written token by token."""

    def __init__(
        self,
        model: Generator,
        encoder: Encoder,
        max_rows: int,
        reserved_rows: int,
        cuda_graphs: bool = True,
    ) -> None:
        self.model, self.encoder = model, encoder
        self.scheduler: Scheduler[Row] = Scheduler(max_rows, min(reserved_rows, max_rows - 1))
        self.slots = model.new_slots(max_rows)
        self.sampler = Sampler(model.vocab_size, model.eos_ids, model.device, model.suppressed_ids)
        self.decode: Callable[[int, int], Tensor] = partial(model.decode, self.slots)
        if cuda_graphs and model.device.type == "cuda":
            self.decode = GraphedDecode(model, self.slots)
        self.rows: list[Row] = []  # row i decodes in slot i
        self._eos = frozenset(model.eos_ids)
        self._ended: list[Row] = []
        self._prefiller = Halving(self._prefill_rows, max_rows)
        self._decoder = Halving(self._decode_rows, max_rows)
        self._no_logits = torch.full((1, model.vocab_size), torch.nan, device=model.device)

    @property
    def active(self) -> int:
        return len(self.rows)

    @property
    def waiting(self) -> int:
        return len(self.scheduler)

    def prepare(self, row: Row) -> Failure | None:
        """What keeps a row from ever being run, or None. Fills in its prompt and its feature."""
        row.feature = self.encoder.cache.get(row.request.image_hash)
        return wrong_image(row.request, row.feature, self.model.image_size) or with_prompt(
            row, self.model
        )

    def add(self, row: Row) -> None:
        self.scheduler.add(row)

    def promote(self, row: Row) -> None:
        self.scheduler.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Take out a row that waits. One that is active leaves at the next step: it has failed."""
        return self.scheduler.remove(row)

    def step(self) -> list[Row]:
        """Admit, encode, prefill, give every row one token. Returns the rows that ended."""
        self._leave([i for i, row in enumerate(self.rows) if row.failure is not None])
        newcomers = self._encode(self._admit())
        logits = self._decode() + self._prefill(newcomers)
        if logits:
            self._take_tokens(torch.cat(logits))
        ended, self._ended = self._ended, []
        return ended

    def _admit(self) -> list[Row]:
        bulk = sum(not row.interactive for row in self.rows)
        return self.scheduler.admit(len(self.rows), bulk)

    def _encode(self, rows: list[Row]) -> list[Row]:
        """Give newcomers the features of their images; returns the rows that have them."""
        if rows:
            self.encoder.run(rows)
        self._ended += [row for row in rows if row.failure is not None]
        return [row for row in rows if row.failure is None]

    def _prefill(self, rows: list[Row]) -> list[Tensor]:
        """Append newcomers to the active rows. Their first logits, in order."""
        logits = []
        parts = (part for alike in of_like_length(rows) for part in self._prefiller.run(alike))
        for batch, result in parts:
            if isinstance(result, Failure):
                batch[0].failure = result
                self._ended.append(batch[0])
                continue
            logits.append(result)
            for row in batch:
                self.sampler.add(row.request.options, row.prompt.start)
                row.feature = None
            self.rows += batch
        return logits

    def _prefill_rows(self, rows: Sequence[Row]) -> Tensor:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        return self.model.prefill(features, [row.prompt for row in rows], self.slots)

    def _decode(self) -> list[Tensor]:
        """The next logits of every active row, in order."""
        logits = []
        for rows, result in self._decoder.run(range(len(self.rows))):
            if isinstance(result, Failure):
                self.rows[rows[0]].failure = result
                result = self._no_logits
            logits.append(result)
        self.slots.advance()
        return logits

    def _decode_rows(self, rows: Sequence[int]) -> Tensor:
        return self.decode(rows[0], rows[-1] + 1)

    def _take_tokens(self, logits: Tensor) -> None:
        """Choose each row's next token; rows that end by it leave."""
        chosen = self.sampler.sample(logits)
        # A graph may compute slots that are free again: what they hold must be a token.
        self.slots.tokens[: len(self.rows)] = chosen.clamp_min(0)
        tokens = chosen.tolist()  # the one place where a step waits for the device
        self.sampler.observe(tokens)
        leaving = []
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if token == NOT_FINITE_TOKEN:
                row.failure = row.failure or NOT_FINITE
                self.slots.scrub(i)
                leaving.append(i)
                continue
            row.tokens.append(token)
            if token in self._eos or len(row.tokens) == row.request.options.max_new_tokens:
                leaving.append(i)
        self._leave(leaving)

    def _leave(self, leaving: list[int]) -> None:
        """End these rows; the last rows take their slots."""
        if not leaving:
            return
        for i in leaving:
            row = self.rows[i]
            if row.failure is None:
                row.text = self.model.text(row.request, row.prompt, row.tokens)
            self._ended.append(row)
        order = self.slots.drop(leaving)
        self.sampler.reorder(order)
        self.rows = [self.rows[i] for i in order]


def of_like_length(rows: list[Row]) -> Iterator[list[Row]]:
    """Newcomers in batches of which half or more is no padding: each is padded to its longest."""
    batch: list[Row] = []
    total = 0
    for row in sorted(rows, key=prompt_length):
        length = prompt_length(row)
        if batch and (len(batch) + 1) * length > MOST_PADDED * (total + length):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += length
    if batch:
        yield batch


def prompt_length(row: Row) -> int:
    """Tokens that prefill reads, of whichever kind there are more."""
    prompt = row.prompt
    return max(len(prompt.start), len(prompt.source or ()), len(prompt.query or ()))


def with_prompt(row: Row, model: Generator) -> Failure | None:
    """Give a row its prompt; what is wrong with it, or None."""
    try:
        row.prompt = model.prompt(row.request)
    except PromptTooLong as error:
        return Failure("prompt_too_long", str(error))
    except (TypeError, ValueError):
        return NO_TEXT
    needed, new = len(row.prompt.start), row.request.options.max_new_tokens
    if needed + new > model.max_length:
        return Failure(
            "prompt_too_long",
            f"The prompt takes {needed} tokens, those of the image included, and {new} new ones are"
            f" asked for; the model holds {model.max_length}.",
        )
    return None
