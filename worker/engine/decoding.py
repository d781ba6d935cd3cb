"""In-flight (continuous) batching: every decode step also admits waiting and removes finished rows.

Entry point: `DecodingLane.step`.
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
from worker.engine.model import Generator, TokenSequence
from worker.engine.row import INVALID_TEXT, NOT_FINITE, Row, check_image
from worker.engine.row_options import (
    InvalidOptions,
    candidate_options,
    candidate_tokens,
    resolve_options,
)
from worker.engine.sampler import NOT_FINITE_TOKEN, Sampler
from worker.engine.scheduler import Scheduler

#: Maximum ratio of padded to real tokens in one prefill.
MAX_PADDING = 2
#: Maximum tokens of one prefill, padding included, which bounds the memory of its activations: 64
#: rows of ordinary length, or 16 questions of 512 tokens.
MAX_PREFILL_TOKENS = 8192


class DecodingLane:
    """The lane of rows that are decoded in flight, greedily or by sampling."""

    is_decoding = True

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
        decoder = model.decoder
        self.slots = decoder.new_slots(max_rows)
        self.sampler = Sampler(
            decoder.vocab_size, decoder.eos_ids, model.device, decoder.suppressed_ids
        )
        self.decode: Callable[[int, int], Tensor] = partial(decoder.decode, self.slots)
        if cuda_graphs and model.device.type == "cuda":
            self.decode = GraphedDecode(decoder, self.slots, adapters=model.adapters)
        self.admitted: list[Row] = []
        self.rows: list[Row] = []  # row i decodes in slot i
        self._eos = frozenset(decoder.eos_ids)
        self._ended: list[Row] = []
        self._prefill_runner = Halving(self._prefill_rows, max_rows)
        self._decode_runner = Halving(self._decode_rows, max_rows)
        self._nan_logits = torch.full((1, decoder.vocab_size), torch.nan, device=model.device)

    @property
    def active(self) -> int:
        return len(self.rows)

    @property
    def waiting(self) -> int:
        return len(self.scheduler)

    def prepare(self, row: Row) -> Failure | None:
        """Set a row's prompt and cached feature; return a Failure if the row cannot run."""
        row.feature = self.encoder.cache.get(row.request.image_hash)
        return check_image(row.request, row.feature, self.model.frame) or prepare_prompt(
            row, self.model
        )

    def add(self, row: Row) -> None:
        self.scheduler.add(row)

    def promote(self, row: Row) -> None:
        self.scheduler.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Remove a waiting row. An active row is removed in the next step if it has failed."""
        return self.scheduler.remove(row)

    def step(self) -> list[Row]:
        """Admit, encode, decode, prefill, sample one token per row; return the ended rows."""
        self._remove([i for i, row in enumerate(self.rows) if row.failure is not None])
        new_rows = self._encode(self._admit())
        logits = self._decode() + self._prefill(new_rows)
        if logits:
            self._sample(torch.cat(logits))
        ended, self._ended = self._ended, []
        return ended

    def _admit(self) -> list[Row]:
        bulk = sum(not row.interactive for row in self.rows)
        rows = self.scheduler.admit(len(self.rows), bulk)
        self.admitted += rows
        return rows

    def _encode(self, rows: list[Row]) -> list[Row]:
        """Set the image features of new rows; return the rows that have them."""
        if rows:
            self.encoder.run(rows)
        self._ended += [row for row in rows if row.failure is not None]
        return [row for row in rows if row.failure is None]

    def _prefill(self, rows: list[Row]) -> list[Tensor]:
        """Append new rows to the active rows; return their first logits, in order."""
        logits = []
        parts = (
            part for group in group_by_length(rows) for part in self._prefill_runner.run(group)
        )
        for batch, result in parts:
            if isinstance(result, Failure):
                batch[0].failure = result
                self._ended.append(batch[0])
                continue
            logits.append(result)
            for row in batch:
                self.sampler.add(row.options, row.prompt.start, row.candidate)
                row.feature = None
            self.rows += batch
        return logits

    def _prefill_rows(self, rows: Sequence[Row]) -> Tensor:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        prompts = [row.prompt for row in rows]
        with self.model.adapters.select([row.request.adapter for row in rows]):
            inputs = self.model.condition(features, prompts)
            return self.model.decoder.prefill(inputs, prompts, self.slots)

    def _decode(self) -> list[Tensor]:
        """Run a decode step; return the logits of every active row, in order."""
        logits = []
        for rows, result in self._decode_runner.run(range(len(self.rows))):
            if isinstance(result, Failure):
                self.rows[rows[0]].failure = result
                result = self._nan_logits
            logits.append(result)
        self.slots.advance()
        return logits

    def _decode_rows(self, rows: Sequence[int]) -> Tensor:
        start, stop = rows[0], rows[-1] + 1
        with self.model.adapters.select([row.request.adapter for row in self.rows[start:stop]]):
            return self.decode(start, stop)

    def _sample(self, logits: Tensor) -> None:
        """Sample each row's next token and remove the rows that this token completes."""
        sampled = self.sampler.sample(logits)
        # A CUDA graph also computes free slots, so these must contain a valid token.
        self.slots.tokens[: len(self.rows)] = sampled.clamp_min(0)
        tokens = sampled.tolist()  # the only wait for the device in a step
        self.sampler.observe(tokens)
        for i, logprob in self.sampler.logprobs():
            self.rows[i].logprobs.append(logprob)
        leaving = []
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if token == NOT_FINITE_TOKEN:
                row.failure = row.failure or NOT_FINITE
                self.slots.scrub(i)
                leaving.append(i)
                continue
            row.tokens.append(token)
            if self._has_ended(row, token):
                leaving.append(i)
        self._remove(leaving)

    def _has_ended(self, row: Row, token: int) -> bool:
        if len(row.tokens) == row.options.max_new_tokens:
            return True
        if row.candidate:
            return False
        if token in self._eos:
            return True
        return row.stop is not None and row.stop.completed_by(row.tokens, row.prompt.start)

    def _remove(self, leaving: list[int]) -> None:
        """End these rows; the last active rows move into their slots."""
        if not leaving:
            return
        for i in leaving:
            row = self.rows[i]
            if row.failure is None:
                row.finish(self.model, [TokenSequence(row.tokens, row.logprobs)])
            self._ended.append(row)
        order = self.slots.drop(leaving)
        self.sampler.reorder(order)
        self.rows = [self.rows[i] for i in order]


def group_by_length(rows: list[Row]) -> Iterator[list[Row]]:
    """Yield rows in forward batches of similar length and of at most MAX_PREFILL_TOKENS."""
    batch: list[Row] = []
    total = 0
    for row in sorted(rows, key=prompt_length):
        length = prompt_length(row)
        padded = (len(batch) + 1) * length
        if batch and padded > min(MAX_PADDING * (total + length), MAX_PREFILL_TOKENS):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += length
    if batch:
        yield batch


def prompt_length(row: Row) -> int:
    """Return the number of tokens that prefill reads: the longest of the prompt's sequences."""
    prompt = row.prompt
    return max(len(prompt.start), len(prompt.source or ()), len(prompt.query or ()))


def prepare_prompt(row: Row, model: Generator) -> Failure | None:
    """Set a row's prompt and options; return a Failure if they are invalid or too long."""
    try:
        row.prompt = model.prompt(row.request)
        row.options = resolve_options(row.request.options, row.prompt, model)
        if row.request.candidate:
            row.candidate = candidate_tokens(row.request.candidate, model)
            row.options = candidate_options(row.candidate)
        if row.options.stop:
            row.stop = model.token_texts.stop_texts(row.options.stop)
    except PromptTooLong as error:
        return Failure("prompt_too_long", str(error))
    except InvalidOptions as error:
        return error.failure
    except (TypeError, ValueError):
        return INVALID_TEXT
    needed, new = len(row.prompt.start), row.options.max_new_tokens
    if needed + new > model.decoder.max_length:
        return Failure(
            "prompt_too_long",
            f"The prompt has {needed} tokens, including image tokens, and {new} new tokens are"
            f" requested; the model's limit is {model.decoder.max_length}.",
        )
    return None
