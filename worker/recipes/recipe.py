"""The protocol of recipes, and the recipe of the tasks that are one call.

A recipe is a generator: it yields the calls of a round, receives their answers in the same order,
and returns the item's result. It computes nothing itself that takes long, and does no I/O, so that
one thread can run the recipes of a whole chunk.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from producer.contract import ItemResult
from worker.engine.request import Answer, GenerationOptions

#: Task of a call to the language model that polishes a description, which is not the engine's.
POLISH: Final = "polish"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One row of the engine about the item's image, or a text for the language model."""

    #: The engine's task, which selects the model, or POLISH.
    task: str
    text: str = ""
    options: GenerationOptions = field(default_factory=GenerationOptions)
    history: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()
    #: The answer to score, instead of a generated one.
    candidate: str = ""


Recipe = Generator[list[ModelCall], list[Answer], ItemResult]
