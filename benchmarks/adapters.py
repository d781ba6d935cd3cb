"""`python -m benchmarks.adapters`: the time of a linear layer with named adapters in its rows.

Prints a Markdown table of a decode step's rows, of which each third has no adapter: the layer
alone, with the stacked matrices of all adapters (as the worker), and with a product for the rows of
each adapter (as peft). Times are in microseconds, the best of many runs, on one thread of a CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from worker.engine.protocol import AdapterInfo
from worker.engine.row_adapters import RowAdapters
from worker.models.lora import LoraLinear, LoraMatrices

#: Width of the layer, rows, adapters and rank of each.
SHAPES = [
    *((768, 12, 3, 8), (768, 60, 3, 8), (768, 60, 8, 16), (768, 60, 32, 16)),
    *((2560, 60, 3, 16), (2560, 60, 8, 16), (2560, 60, 32, 16)),
]
REPEATS = 100
HEADER = """\
| width | rows | adapters | rank | layer | stacked | by adapter |
|---:|---:|---:|---:|---:|---:|---:|"""


def main() -> int:
    """Print the table."""
    torch.set_num_threads(1)
    print(HEADER)
    for width, rows, count, rank in SHAPES:
        times = measure(width, rows, count, rank)
        cells = [width, rows, count, rank, *(f"{1e6 * seconds:,.0f}" for seconds in times)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return 0


@torch.inference_mode()
def measure(width: int, rows: int, count: int, rank: int) -> list[float]:
    """Return the seconds of the layer alone, stacked and by adapter."""
    names = [str(number) for number in range(count)]
    adapters = RowAdapters([AdapterInfo(name, "", False) for name in names])
    base = nn.Linear(width, width)
    matrices = [LoraMatrices(torch.randn(rank, width), torch.randn(width, rank)) for _ in names]
    layer = LoraLinear(base, adapters, matrices, torch.float32)
    states = torch.randn(rows, 1, width)
    owners = ["" if row % 3 == 0 else names[row % count] for row in range(rows)]
    groups = {
        name: torch.tensor([row for row, owner in enumerate(owners) if owner == name])
        for name in names
        if name in owners
    }

    def by_adapter() -> Tensor:
        out: Tensor = base(states)
        for name, indices in groups.items():
            change = matrices[int(name)]
            out[indices] += states[indices] @ change.down.T @ change.up.T
        return out

    with adapters.select(owners):
        torch.testing.assert_close(layer(states), by_adapter(), atol=1e-2, rtol=1e-4)
        return [best_s(run) for run in (lambda: base(states), lambda: layer(states), by_adapter)]


def best_s(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest run."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    sys.exit(main())
