"""The KV cache: keys and values of the active rows, in fixed buffers of one slot per row.

Each row writes at its own position, so rows of any length share a decode step without padding or
concatenation. Slots 0..count-1 are active; when a slot is freed, the last active row moves into it.
A row's newest token attends to all positions up to its own, through one row of a causal mask.

A decoder with cross-attention to a source (an encoder's output, an image) stores the source's keys
and values in a second pair of buffers, written once at prefill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from worker.engine.capacity import FIRST_CAPACITY, CapacityPolicy
from worker.engine.device import check_free
from worker.engine.halving import OUT_OF_MEMORY, failure_of

#: On a GPU the attended length is rounded up to a multiple of this, so that few shapes occur:
#: kernels are selected once, and captured graphs are reused. On a CPU, masked positions cost time.
CUDA_WIDTH_STEP = 64
#: Number of steps up to which multiples are used; beyond it, the number is a power of two.
FINE_STEPS = 4
#: Short rows after which a GPU's buffers shrink: every captured graph is lost with them.
CUDA_PATIENCE = 256


@dataclass(slots=True)
class ForwardPass:
    """A forward pass of rows start..stop that attend to `width` positions.

    Masks are added to attention scores; None masks nothing.
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
    #: Flat index of each row's (row, position) at decode; None at prefill.
    index: Tensor | None


class SlotCache:
    """A KV cache of `rows` slots of up to `limit` tokens for a decoder of (layers, heads, dim).

    `source_limit` is the maximum positions of a row's source; 0 means no cross-attention.
    `first_source` are those of an ordinary row.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        rows: int,
        limit: int,
        dtype: torch.dtype,
        device: torch.device,
        source_limit: int = 0,
        first_source: int = FIRST_CAPACITY,
    ) -> None:
        self.shape, self.rows, self.limit = shape, rows, limit
        self.source_limit = source_limit
        self.dtype, self.device = dtype, device
        patience = CUDA_PATIENCE if device.type == "cuda" else 0
        self._policy = CapacityPolicy(limit, patience=patience)
        self._source_policy = CapacityPolicy(source_limit, first_source, patience)
        self.width_step = CUDA_WIDTH_STEP if device.type == "cuda" else 1
        #: Widths of every decode pass; None: the widths that its rows need.
        self.fixed_widths: tuple[int, int] | None = None
        #: Version of the buffers; changes whenever they move.
        self.layout = 0
        # Host copies of the active rows' `positions` and `source_ends`.
        self.lengths: list[int] = []
        self.source_lengths: list[int] = []
        #: By row: its length (the next token's position), its newest token, its source's length.
        self.state = torch.zeros(3, rows, dtype=torch.long, device=device)
        self.positions, self.tokens, self.source_ends = self.state
        self.source_ends.fill_(1)  # a row whose positions are all masked would compute NaN
        self._allocate(self._policy.first)
        self._allocate_source(self._source_policy.first)

    @property
    def token_bytes(self) -> int:
        """Bytes of a position's keys and values."""
        return 2 * prod(self.shape) * self.dtype.itemsize

    @property
    def count(self) -> int:
        return len(self.lengths)

    def _allocate(self, capacity: int) -> None:
        layers, heads, dim = self.shape
        # Length before heads, unlike transformers' own caches: a step then writes one contiguous
        # entry per row (6 us for 64 rows with `index_copy_`, and 22 us for a scatter over heads).
        buffers = self._zeros(layers, 2, self.rows, capacity, heads, dim)
        blocked = torch.full((capacity, capacity), -torch.inf, dtype=self.dtype, device=self.device)
        causal = blocked.triu(1)
        row_offsets = torch.arange(self.rows, device=self.device) * capacity
        # All allocations have succeeded: only now change the state.
        self.buffers, self.causal, self.row_offsets = buffers, causal, row_offsets
        self.capacity = capacity
        self.layout += 1
        self._flat_buffers = [tuple(part.flatten(0, 1) for part in layer) for layer in buffers]

    def _allocate_source(self, capacity: int) -> None:
        layers, heads, dim = self.shape
        # In memory heads come before length: a source is written once but read at every step, and
        # a CPU reads 577 contiguous positions of 16 rows in half the time.
        self.sources = self._zeros(layers, 2, self.rows, heads, capacity, dim).transpose(3, 4)
        self.source_capacity = capacity
        self.layout += 1
        self._source_positions = torch.arange(capacity, device=self.device)

    def _zeros(self, *shape: int) -> Tensor:
        """Allocate a buffer. Raises MemoryError, or a GPU's error, without enough memory."""
        check_free(prod(shape) * self.dtype.itemsize, self.device, f"a KV cache of {shape}")
        # Zeros, not empty memory: a masked NaN times its weight 0 is still a NaN.
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def reserve(self, length: int, source_length: int = 0) -> None:
        """Grow every slot to at least this capacity.

        Raises ValueError above the model's limits, and the error of an allocation that fails.
        """
        self._resize(
            self._policy.grow(self.capacity, length),
            self._source_policy.grow(self.source_capacity, source_length),
        )

    def _resize(self, capacity: int, source_capacity: int) -> None:
        """Move the active rows to buffers of these capacities."""
        if capacity != self.capacity:
            old, width = self.buffers, min(capacity, self.capacity)
            self._allocate(capacity)
            self.buffers[:, :, : self.count, :width].copy_(old[:, :, : self.count, :width])
        if source_capacity != self.source_capacity:
            old, width = self.sources, min(source_capacity, self.source_capacity)
            self._allocate_source(source_capacity)
            self.sources[:, :, : self.count, :width].copy_(old[:, :, : self.count, :width])

    def begin_prefill(self, lengths: Sequence[int], sources: Sequence[int] = ()) -> ForwardPass:
        """Start a prefill of new rows of `lengths` tokens, in the slots after the active ones.

        Rows are padded on the right to the longest: padding comes after every real token, so the
        causal mask hides it, and the row's own tokens later overwrite it. `sources` are the
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
        return ForwardPass(start, stop, width, source_width, positions, mask, source_mask, None)

    def begin_decode(self, start: int, stop: int) -> ForwardPass:
        """Start a decode step of rows start..stop.

        It may be repeated, even with other bounds: only `advance` completes a step.
        """
        if self.fixed_widths is not None:
            return self._decode_pass(start, stop, *self.fixed_widths, sources=(0,))
        self.reserve(max(self.lengths[start:stop]) + 1)
        sources = self.source_lengths[start:stop]
        return self._decode_pass(start, stop, *self.widths(start, stop), sources)

    def widths(self, start: int, stop: int) -> tuple[int, int]:
        """Return the positions of rows and of sources that a decode step of these rows reads."""
        width = self._round_up(max(self.lengths[start:stop]) + 1)
        source_width = self._round_up(max(self.source_lengths[start:stop], default=0))
        return min(self.capacity, width), min(self.source_capacity, source_width)

    def _round_up(self, length: int) -> int:
        steps = -(-length // self.width_step)
        if self.width_step > 1 and steps > FINE_STEPS:
            steps = 1 << (steps - 1).bit_length()
        return steps * self.width_step

    def _decode_pass(
        self, start: int, stop: int, width: int, source_width: int, sources: Sequence[int]
    ) -> ForwardPass:
        """Build a pass from only device state and the widths, as a CUDA graph requires."""
        positions = self.positions[start:stop]
        mask = self.causal[:, :width].index_select(0, positions)[:, None, None]
        source_mask = self._source_mask(start, stop, source_width, sources)
        index = self.row_offsets[start:stop] + positions
        return ForwardPass(
            start, stop, width, source_width, positions[:, None], mask, source_mask, index
        )

    def _source_mask(
        self, start: int, stop: int, width: int, lengths: Sequence[int]
    ) -> Tensor | None:
        if not width or all(length == width for length in lengths):
            return None
        visible = self._source_positions[:width] < self.source_ends[start:stop, None]
        mask = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~visible, -torch.inf)[:, None, None]

    def store(
        self, forward: ForwardPass, layer: int, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Store states (rows, new, heads, dim); return all keys and values that rows attend to."""
        rows = slice(forward.start, forward.stop)
        if forward.index is None:
            self.buffers[layer, 0, rows, : forward.width] = keys
            self.buffers[layer, 1, rows, : forward.width] = values
            return keys, values
        flat_keys, flat_values = self._flat_buffers[layer]
        flat_keys.index_copy_(0, forward.index, keys[:, 0])
        flat_values.index_copy_(0, forward.index, values[:, 0])
        cached = self.buffers[layer, :, rows, : forward.width]
        return cached[0], cached[1]

    def store_source(self, forward: ForwardPass, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the states of new rows' sources: (rows, source_width, heads, dim)."""
        rows = slice(forward.start, forward.stop)
        self.sources[layer, 0, rows, : forward.source_width] = keys
        self.sources[layer, 1, rows, : forward.source_width] = values

    def source(self, forward: ForwardPass, layer: int) -> tuple[Tensor, Tensor]:
        """Return the states of the rows' sources: (rows, source_width, heads, dim)."""
        rows = slice(forward.start, forward.stop)
        cached = self.sources[layer, :, rows, : forward.source_width]
        return cached[0], cached[1]

    def append(self, lengths: Sequence[int], sources: Sequence[int] = ()) -> None:
        """Make prefilled new rows active."""
        start = self.count
        self.lengths = [*self.lengths, *lengths]
        self.source_lengths = [*self.source_lengths, *(sources or [0] * len(lengths))]
        self.positions[start : self.count] = torch.tensor(lengths, device=self.device)

    def advance(self) -> None:
        """Count the token that a decode step has stored for every active row."""
        self.positions[: self.count] += 1
        self.lengths = [length + 1 for length in self.lengths]

    def scrub(self, row: int) -> None:
        """Zero a row's states, so that its NaNs cannot reach the next row in the slot."""
        self.buffers[:, :, row].zero_()
        self.sources[:, :, row].zero_()

    def drop(self, rows: Sequence[int]) -> list[int]:
        """Free `rows`; return the previous row number of each remaining row."""
        dropped, remaining = set(rows), self.count - len(rows)
        order = list(range(remaining))
        movers = iter([row for row in range(remaining, self.count) if row not in dropped])
        for hole in sorted(row for row in dropped if row < remaining):
            order[hole] = mover = next(movers)
            self._move(mover, hole)
        # A CUDA graph also computes free slots, whose positions must stay within bounds.
        self.positions[remaining : self.count] = 0
        lengths, source_lengths = self.lengths, self.source_lengths
        self.lengths = [lengths[row] for row in order]
        self.source_lengths = [source_lengths[row] for row in order]
        self._shrink([lengths[row] for row in rows], [source_lengths[row] for row in rows])
        return order

    def _move(self, row: int, hole: int) -> None:
        width, source_width = self.lengths[row], self.source_lengths[row]
        self.buffers[:, :, hole, :width] = self.buffers[:, :, row, :width]
        self.sources[:, :, hole, :source_width] = self.sources[:, :, row, :source_width]
        self.state[:, hole] = self.state[:, row]

    def _shrink(self, leaving: Sequence[int], leaving_sources: Sequence[int]) -> None:
        """Release the memory of long rows that have left."""
        capacity = self._policy.shrink(self.capacity, leaving, self.lengths)
        source_capacity = self._source_policy.shrink(
            self.source_capacity, leaving_sources, self.source_lengths
        )
        try:
            self._resize(capacity, source_capacity)
        except (RuntimeError, MemoryError) as error:
            if failure_of(error).code != OUT_OF_MEMORY:
                raise
            # Smaller buffers do not fit beside the larger ones, which remain for now.
