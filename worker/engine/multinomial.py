"""Multinomial draws of a group of rows, each row with its own generator.

Beam search with sampling runs in transformers' own `generate`, which draws for all rows at once
from torch's global generator: neighbours in a group would change a row's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from worker.engine.request import GenerationOptions


def seeded_generator(options: GenerationOptions, device: torch.device) -> torch.Generator:
    """Return a generator with the row's seed, or with a random seed if it has none."""
    generator = torch.Generator(device)
    if options.seed is None:
        generator.seed()
    else:
        generator.manual_seed(options.seed)
    return generator


class RowMultinomial(TorchFunctionMode):
    """A context in which `torch.multinomial` draws row i with `generators[i]`, in this thread only.

    Row i gets the draws of a batch that consists of it alone after `torch.manual_seed`.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch; `multinomial` runs once for each row."""
        if func is not torch.multinomial:
            return func(*args, **(kwargs or {}))
        return self._draw(*args, **(kwargs or {}))

    def _draw(self, probabilities: Tensor, num_samples: int) -> Tensor:
        if not probabilities.isfinite().all():
            # On a GPU, multinomial itself would end the process.
            raise RuntimeError("the probabilities of a beam search are not finite")
        rows = zip(probabilities[:, None], self.generators, strict=True)
        return torch.cat(
            [torch.multinomial(row, num_samples, generator=generator) for row, generator in rows]
        )
