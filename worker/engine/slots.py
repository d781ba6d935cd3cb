"""Keys and values of the active rows, in fixed buffers that a decoder reads and writes.

Every row owns one slot and writes at its own position, so rows of any length share a step without
padding or concatenation. Slots 0..count-1 are active; when one is freed the last active row moves
into it. A row's newest token sees positions 0..its own, through one line of a triangular mask.

A decoder that also attends to a source (an encoder's output, an image) has its keys and values in
a second pair of buffers, written once at prefill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.device import free_bytes

#: Tokens a slot holds before it first grows: 32 image tokens, a question and a short answer.
FIRST_CAPACITY = 64
#: On a GPU the attended length is rounded up to this, so that few shapes occur: kernels are chosen
#: once, and a captured graph can be used again. On a CPU every masked position costs time.
CUDA_WIDTH_STEP = 64
#: Steps up to which it is; beyond, to a power of two of them.
FINE_STEPS = 4


@dataclass(slots=True)
class Pass:
    """The forward pass under way: rows start..stop, which see `width` positions.

    Masks are added to attention scores; None lets everything be seen.
    """

    start: int
    stop: int
    width: int
    source_width: int
    #: (1, width) at prefill, (rows, 1) at decode.
    positions: Tensor
    #: (1, 1, width, width) at prefill, (rows, 1, 1, width) at decode.
    mask: Tensor
    #: (rows, 1, 1, source_width).
    source_mask: Tensor | None
    #: One flat (row, position) for each row at decode; None at prefill.
    index: Tensor | None


class SlotCache:
    """`rows` slots of up to `limit` tokens for a decoder of (layers, heads, dim).

    With `source_limit` each row also has up to so many positions of a source.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        rows: int,
        limit: int,
        dtype: torch.dtype,
        device: torch.device,
        source_limit: int = 0,
    ) -> None:
        self.shape, self.rows, self.limit = shape, rows, limit
        self.source_limit = source_limit
        self.dtype, self.device = dtype, device
        self.width_step = CUDA_WIDTH_STEP if device.type == "cuda" else 1
        #: Widths that every decode pass has for now, in place of those that its rows need.
        self.fixed: tuple[int, int] | None = None
        #: Changes whenever the buffers move.
        self.layout = 0
        # Of the active rows; the same as `positions` and `source_ends`, on the host.
        self.lengths: list[int] = []
        self.source_lengths: list[int] = []
        #: A line for each row: its length (where the next token goes), its newest token, and the
        #: length of its source.
        self.state = torch.zeros(3, rows, dtype=torch.long, device=device)
        self.positions, self.tokens, self.source_ends = self.state
        self.source_ends.fill_(1)  # a row that sees nothing at all would compute NaN
        self._allocate(min(limit, FIRST_CAPACITY))
        self._allocate_source(min(source_limit, FIRST_CAPACITY))

    @property
    def count(self) -> int:
        return len(self.lengths)

    def _allocate(self, capacity: int) -> None:
        layers, heads, dim = self.shape
        size = 2 * layers * self.rows * capacity * heads * dim * self.dtype.itemsize
        if self.device.type == "cpu" and size > free_bytes(self.device):
            # Linux would give the memory, and kill the process when it is used.
            raise MemoryError(f"slots of {capacity} tokens need {size:,} bytes")
        # Zeros, not empty memory: a masked NaN is still a NaN after the product with its weight 0.
        # Length before heads, unlike transformers' own caches: a step then writes one line for
        # each row (6 us for 64 rows with `index_copy_`, against 22 us for a scatter over heads).
        buffers = torch.zeros(
            (layers, 2, self.rows, capacity, heads, dim), dtype=self.dtype, device=self.device
        )
        blocked = torch.full((capacity, capacity), -torch.inf, dtype=self.dtype, device=self.device)
        causal = blocked.triu(1)
        first_lines = torch.arange(self.rows, device=self.device) * capacity
        # Only now, when nothing can run out of memory any more, does anything change.
        self.buffers, self.causal, self.first_lines = buffers, causal, first_lines
        self.capacity = capacity
        self.layout += 1
        self._lines = [tuple(part.flatten(0, 1) for part in layer) for layer in buffers]

    def _allocate_source(self, capacity: int) -> None:
        layers, heads, dim = self.shape
        # Heads before length, seen as length before heads: written once but read at every step, and
        # on a CPU a step reads 577 positions of 16 rows in half the time when they lie together.
        self.sources = torch.zeros(
            (layers, 2, self.rows, heads, capacity, dim), dtype=self.dtype, device=self.device
        ).transpose(3, 4)
        self.source_capacity = capacity
        self.layout += 1
        self._source_places = torch.arange(capacity, device=self.device)

    def reserve(self, length: int, source_length: int = 0) -> None:
        """Make every slot hold this much, by doubling: 64 rows of 2048 are never needed."""
        if length > self.limit or source_length > self.source_limit:
            raise ValueError(
                f"a row of {length} tokens and a source of {source_length} exceed the model's"
                f" {self.limit} and {self.source_limit}"
            )
        if length > self.capacity:
            old, kept = self.buffers, self.capacity
            self._allocate(min(self.limit, max(length, 2 * kept)))
            self.buffers[:, :, : self.count, :kept].copy_(old[:, :, : self.count])
        if source_length > self.source_capacity:
            old, kept = self.sources, self.source_capacity
            self._allocate_source(min(self.source_limit, max(source_length, 2 * kept)))
            self.sources[:, :, : self.count, :kept].copy_(old[:, :, : self.count])

    def begin_prefill(self, lengths: Sequence[int], sources: Sequence[int] = ()) -> Pass:
        """A pass over newcomers of `lengths` tokens, in the slots after the active ones.

        They are padded on the right to the longest: padding comes after every real token, so the
        causal mask alone hides it, and the row's own tokens later overwrite it. `sources` are the
        lengths of their sources, padded on the right as well.
        """
        width, source_width = max(lengths), max(sources, default=0)
        self.reserve(width, source_width)
        start, stop = self.count, self.count + len(lengths)
        if sources:
            self.source_ends[start:stop] = torch.tensor(sources, device=self.device)
        positions = torch.arange(width, device=self.device)[None]
        mask = self.causal[None, None, :width, :width]
        source_mask = self._source_mask(start, stop, source_width, sources)
        return Pass(start, stop, width, source_width, positions, mask, source_mask, None)

    def begin_decode(self, start: int, stop: int) -> Pass:
        """A pass over one new token for each of the rows start..stop.

        May be repeated, also with other bounds: nothing counts before `advance`.
        """
        if self.fixed is not None:
            return self._decode_pass(start, stop, *self.fixed, sources=(0,))
        self.reserve(max(self.lengths[start:stop]) + 1)
        sources = self.source_lengths[start:stop]
        return self._decode_pass(start, stop, *self.widths(start, stop), sources)

    def widths(self, start: int, stop: int) -> tuple[int, int]:
        """How many positions of rows and of sources a decode step of these rows looks at."""
        longest = max(self.lengths[start:stop]) + 1
        source = max(self.source_lengths[start:stop], default=0)
        return min(self.capacity, self._wide(longest)), min(
            self.source_capacity, self._wide(source)
        )

    def _wide(self, length: int) -> int:
        steps = -(-length // self.width_step)
        if self.width_step > 1 and steps > FINE_STEPS:
            steps = 1 << (steps - 1).bit_length()
        return steps * self.width_step

    def _decode_pass(
        self, start: int, stop: int, width: int, source_width: int, sources: Sequence[int]
    ) -> Pass:
        """Made from what is on the device alone, but for the widths."""
        positions = self.positions[start:stop]
        mask = self.causal[:, :width].index_select(0, positions)[:, None, None]
        source_mask = self._source_mask(start, stop, source_width, sources)
        index = self.first_lines[start:stop] + positions
        return Pass(start, stop, width, source_width, positions[:, None], mask, source_mask, index)

    def _source_mask(
        self, start: int, stop: int, width: int, lengths: Sequence[int]
    ) -> Tensor | None:
        if not width or all(length == width for length in lengths):
            return None
        seen = self._source_places[:width] < self.source_ends[start:stop, None]
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, -torch.inf)[:, None, None]

    def store(self, at: Pass, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store states of (rows, new, heads, dim); return all that the rows may attend to."""
        if at.index is None:
            self.buffers[layer, 0, at.start : at.stop, : at.width] = keys
            self.buffers[layer, 1, at.start : at.stop, : at.width] = values
            return keys, values
        key_lines, value_lines = self._lines[layer]
        key_lines.index_copy_(0, at.index, keys[:, 0])
        value_lines.index_copy_(0, at.index, values[:, 0])
        held = self.buffers[layer, :, at.start : at.stop, : at.width]
        return held[0], held[1]

    def store_source(self, at: Pass, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the states of newcomers' sources: (rows, source_width, heads, dim)."""
        self.sources[layer, 0, at.start : at.stop, : at.source_width] = keys
        self.sources[layer, 1, at.start : at.stop, : at.source_width] = values

    def source(self, at: Pass, layer: int) -> tuple[Tensor, Tensor]:
        """The states of the sources of a pass's rows: (rows, source_width, heads, dim)."""
        held = self.sources[layer, :, at.start : at.stop, : at.source_width]
        return held[0], held[1]

    def append(self, lengths: Sequence[int], sources: Sequence[int] = ()) -> None:
        """The prefilled newcomers are active now."""
        start = self.count
        self.lengths = [*self.lengths, *lengths]
        self.source_lengths = [*self.source_lengths, *(sources or [0] * len(lengths))]
        self.positions[start : self.count] = torch.tensor(lengths, device=self.device)

    def advance(self) -> None:
        """Every active row has one token more."""
        self.positions[: self.count] += 1
        self.lengths = [length + 1 for length in self.lengths]

    def scrub(self, row: int) -> None:
        """Forget what a row wrote, so that its NaNs cannot reach the next row of that slot."""
        self.buffers[:, :, row].zero_()
        self.sources[:, :, row].zero_()

    def drop(self, rows: Sequence[int]) -> list[int]:
        """Free `rows`. Returns, for each row that stays, the row it was before."""
        gone, kept = set(rows), self.count - len(rows)
        order = list(range(kept))
        movers = iter([row for row in range(kept, self.count) if row not in gone])
        for hole in sorted(row for row in gone if row < kept):
            order[hole] = mover = next(movers)
            self._move(mover, hole)
        # A free slot that is computed with others (in a graph) must stay within its bounds.
        self.positions[kept : self.count] = 0
        self.lengths = [self.lengths[row] for row in order]
        self.source_lengths = [self.source_lengths[row] for row in order]
        if not kept:
            self._shrink()
        return order

    def _move(self, row: int, hole: int) -> None:
        width, source_width = self.lengths[row], self.source_lengths[row]
        self.buffers[:, :, hole, :width] = self.buffers[:, :, row, :width]
        self.sources[:, :, hole, :source_width] = self.sources[:, :, row, :source_width]
        self.state[:, hole] = self.state[:, row]

    def _shrink(self) -> None:
        """What one long row took is given back; not on a GPU, where graphs know the place."""
        if self.device.type == "cuda":
            return
        if self.capacity > FIRST_CAPACITY:
            self._allocate(min(self.limit, FIRST_CAPACITY))
