"""A decode step as one replay of a CUDA graph.

Launched kernel by kernel, a step of a large model costs 15 to 25 ms of launches, whatever the GPU
computes meanwhile. A graph has fixed shapes: row counts and attended widths are rounded up to a few
buckets, and each bucket is captured when it is first needed. Rows between those that are active and
the bucket's compute something that nobody reads, in slots that nobody owns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from worker.engine.model import Generator
from worker.engine.slots import SlotCache

log = logging.getLogger(__name__)

#: Rows are rounded up to a power of two, and from here on to a multiple of this.
ROW_STEP = 16
#: How far a replay may lie from the step run plainly, as a share of the largest logit: kernels
#: chosen for other shapes round otherwise in half precision.
CLOSE = 0.05

Run = Callable[[], Tensor]
Capture = Callable[[Run], Run]
Bucket = tuple[int, int, int]  # rows, width, width of the source


class GraphedDecode:
    """Stands in for `model.decode`. Whatever cannot be captured is run plainly."""

    def __init__(self, model: Generator, slots: SlotCache, capture: Capture | None = None) -> None:
        self.model, self.slots = model, slots
        self._capture = capture or partial(cuda_graph, slots.device)
        self._graphs: dict[Bucket, Run] = {}
        self._layout = slots.layout
        self._usable = True

    def __call__(self, start: int, stop: int) -> Tensor:
        """Logits (rows, vocabulary) of the rows start..stop."""
        # Parts of a batch are only run when something went wrong with the whole.
        if start or not self._usable:
            return self.model.decode(self.slots, start, stop)
        slots = self.slots
        slots.reserve(max(slots.lengths[:stop]) + 1)
        if slots.layout != self._layout:
            # The buffers have moved, and every graph reads where they were.
            self._graphs, self._layout = {}, slots.layout
        bucket = (row_bucket(stop, slots.rows), *slots.widths(0, stop))
        replay = self._graphs.get(bucket)
        if replay is None:
            return self._begin(bucket, stop)
        return replay()[:stop]

    def _begin(self, bucket: Bucket, rows: int) -> Tensor:
        """Run a step plainly, capture its bucket, and keep the graph if it does the same."""
        expected = self.model.decode(self.slots, 0, rows)
        try:
            replay = self._capture(lambda: self._fixed(bucket))
            # What a replay does not write is seen: an empty graph would leave what is there.
            replay().fill_(torch.nan)
            difference = (replay()[:rows] - expected).abs().max()
        except RuntimeError as error:
            # What a device that is broken for good says comes again from the plain step.
            self._give_up(f"cannot be captured: {error}")
            return self.model.decode(self.slots, 0, rows)
        if difference <= CLOSE * expected.abs().max():
            self._graphs[bucket] = replay
        elif expected.isfinite().all():
            self._give_up(f"differs by {float(difference):g} when replayed")
        return expected

    def _fixed(self, bucket: Bucket) -> Tensor:
        rows, width, source_width = bucket
        self.slots.fixed = (width, source_width)
        try:
            return self.model.decode(self.slots, 0, rows)
        finally:
            self.slots.fixed = None

    def _give_up(self, reason: str) -> None:
        log.warning("without CUDA graphs from now on: a decode step %s", reason)
        self._usable, self._graphs = False, {}


def row_bucket(rows: int, most: int) -> int:
    """The rows that a graph for `rows` rows has."""
    power = 1 << (rows - 1).bit_length()
    return min(most, power if power <= ROW_STEP else -(-rows // ROW_STEP) * ROW_STEP)


def cuda_graph(device: torch.device, run: Run) -> Run:
    """Capture what `run` does on a device. Its result is overwritten by each replay."""
    with torch.cuda.device(device):
        graph, logits = _captured(run)

    def replay() -> Tensor:
        with torch.cuda.device(device):
            graph.replay()
        return logits

    return replay


def _captured(run: Run) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    # Once before, on a stream of its own: libraries set themselves up at the first call, which a
    # capture would not allow.
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(main)
    with torch.cuda.stream(side):
        run()
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run()
    return graph, logits
