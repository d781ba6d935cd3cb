from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import Generator, Prompt
from worker.engine.request import Request
from worker.engine.selfcheck import check
from worker.models.registry import load


class Meddled:
    """A model with some methods replaced."""

    def __init__(self, model: Generator, **changed: Any) -> None:
        self._model = model
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sound_model_passes_and_the_engine_is_left_empty(
    checkpoint: Path, precision: str
) -> None:
    engine = Engine(load(str(checkpoint), precision=precision, device="cpu"))
    check(engine)
    assert engine.idle
    assert len(engine.encoders[0].cache) == 0


def test_numbers_that_are_not_finite_are_refused(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        return model.encode(pixels) * torch.inf

    with pytest.raises(LoadError, match="not finite"):
        check(Engine(Meddled(model, encode=encode)))


def test_a_model_that_says_nothing_is_refused(model: Generator) -> None:
    def text(request: Request, prompt: Prompt, new: list[int]) -> str:
        return ""

    with pytest.raises(LoadError, match="empty"):
        check(Engine(Meddled(model, text=text)))


def test_a_model_whose_rows_depend_on_their_neighbours_is_refused(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        return features / len(pixels)

    with pytest.raises(LoadError, match="differently"):
        check(Engine(Meddled(model, encode=encode)))


def test_a_model_that_fails_is_refused_with_its_reason(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(LoadError, match="no kernel image"):
        check(Engine(Meddled(model, decode=decode)))
