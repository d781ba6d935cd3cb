"""The memory table of model cards, which `accelerate estimate-memory` computes.

Its figures differ from those of worker.models.memory: it counts a tied head twice, in units of
1,024 that it calls MB and GB, assumes that all weights have the type, and has no rows.
"""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import dataclass
from typing import Any, Final

from worker.models.memory_shapes import skeleton

#: Bits of a weight by the names on model cards.
TYPES: Final = {"float32": 32, "float16/bfloat16": 16, "int8": 8, "int4": 4}
#: Weights, gradients and two moments.
ADAM_COPIES: Final = 4


@dataclass(frozen=True)
class CardEstimate:
    """Memory of one type, in bytes."""

    dtype: str
    largest_layer_bytes: int
    total_bytes: int
    #: Training with Adam.
    training_bytes: int


def card_estimates(config: Any, network_class: Any = None) -> list[CardEstimate]:
    """Return the rows of the table for a configuration from `read_config`; none without accelerate.

    Raises LoadError.
    """
    if importlib.util.find_spec("accelerate") is None:
        return []
    from accelerate.utils.modeling import calculate_maximum_sizes

    untied = copy.deepcopy(config)
    for part in (untied, getattr(untied, "text_config", None)):
        if part is not None:
            part.tie_word_embeddings = False
    total, (largest, _) = calculate_maximum_sizes(skeleton(untied, network_class))
    return [
        CardEstimate(dtype, largest * bits // 32, total * bits // 32, _training(total, bits))
        for dtype, bits in TYPES.items()
    ]


def _training(total: int, bits: int) -> int:
    return ADAM_COPIES * total * bits // 32
