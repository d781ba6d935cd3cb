"""A decode step as one replay of a CUDA graph.

Launched kernel by kernel, a decode step of a large model spends 15 to 25 ms on launches. A graph
has fixed shapes: row counts and attended widths are rounded up to a few buckets, and each bucket is
captured at its first use. The bucket's rows beyond the active ones compute unused results in free
slots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from worker.engine.model import TextDecoder
from worker.engine.row_adapters import RowAdapters
from worker.engine.slots import SlotCache

log = logging.getLogger(__name__)

#: Row counts are rounded up to a power of two, or beyond this number to a multiple of it.
ROW_STEP = 16
#: Maximum difference of a replay from the eager step, as a share of the largest logit: kernels for
#: other shapes round differently in half precision.
TOLERANCE = 0.05

Run = Callable[[], Tensor]
Capture = Callable[[Run], Run]
Bucket = tuple[int, int, int, bool]  # rows, width, source width, with adapters


class GraphedDecode:
    """A drop-in for `decoder.decode`; a step that cannot be captured runs eagerly."""

    def __init__(
        self,
        decoder: TextDecoder,
        slots: SlotCache,
        capture: Capture | None = None,
        adapters: RowAdapters | None = None,
    ) -> None:
        self.decoder, self.slots = decoder, slots
        self.adapters = adapters or RowAdapters()
        #: The adapter of each slot, which the graphs read.
        self._indices = torch.zeros(slots.rows, dtype=torch.long, device=slots.device)
        self._capture = capture or partial(cuda_graph, slots.device)
        self._graphs: dict[Bucket, Run] = {}
        self._layout = slots.layout
        self._usable = True

    def __call__(self, start: int, stop: int) -> Tensor:
        """Return the logits (rows, vocabulary) of rows start..stop."""
        # A part of the rows runs only after all rows together have failed.
        if start or not self._usable:
            return self.decoder.decode(self.slots, start, stop)
        slots = self.slots
        slots.reserve(max(slots.lengths[:stop]) + 1)
        if slots.layout != self._layout:
            # The buffers have moved, and every graph reads their old addresses.
            self._graphs, self._layout = {}, slots.layout
        indices = self.adapters.indices
        if indices is not None:
            self._indices[:stop] = indices
            self._indices[stop:] = 0
        bucket = (row_bucket(stop, slots.rows), *slots.widths(0, stop), indices is not None)
        replay = self._graphs.get(bucket)
        if replay is None:
            return self._add_graph(bucket, stop)
        return replay()[:stop]

    def _add_graph(self, bucket: Bucket, rows: int) -> Tensor:
        """Run a step eagerly, capture its bucket, and keep the graph if its logits agree."""
        expected = self.decoder.decode(self.slots, 0, rows)
        try:
            replay = self._capture(lambda: self._decode_bucket(bucket))
            # NaN marks logits that the replay does not write, as with an empty graph.
            replay().fill_(torch.nan)
            difference = (replay()[:rows] - expected).abs().max()
        except RuntimeError as error:
            # A broken device raises the error again in the eager step.
            self._disable(f"cannot be captured: {error}")
            return self.decoder.decode(self.slots, 0, rows)
        if difference <= TOLERANCE * expected.abs().max():
            self._graphs[bucket] = replay
        elif expected.isfinite().all():
            self._disable(f"differs by {float(difference):g} when replayed")
        return expected

    def _decode_bucket(self, bucket: Bucket) -> Tensor:
        rows, width, source_width, adapted = bucket
        self.slots.fixed_widths = (width, source_width)
        try:
            with self.adapters.use(self._indices[:rows] if adapted else None):
                return self.decoder.decode(self.slots, 0, rows)
        finally:
            self.slots.fixed_widths = None

    def _disable(self, reason: str) -> None:
        log.warning("CUDA graphs are disabled: a decode step %s", reason)
        self._usable, self._graphs = False, {}


def row_bucket(rows: int, limit: int) -> int:
    """Return the row count of the bucket for `rows` rows."""
    power = 1 << (rows - 1).bit_length()
    return min(limit, power if power <= ROW_STEP else -(-rows // ROW_STEP) * ROW_STEP)


def cuda_graph(device: torch.device, run: Run) -> Run:
    """Capture a function on a device. Each replay overwrites the returned tensor."""
    with torch.cuda.device(device):
        graph, logits = _capture_graph(run)

    def replay() -> Tensor:
        with torch.cuda.device(device):
            graph.replay()
        return logits

    return replay


def _capture_graph(run: Run) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    # Run once on a side stream: libraries initialise at their first call, which a capture forbids.
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(main)
    with torch.cuda.stream(side):
        run()
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run()
    return graph, logits
