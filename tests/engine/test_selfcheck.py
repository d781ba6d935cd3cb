from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.workload import with_methods
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import Generator, Prompt, as_generator
from worker.engine.request import Request
from worker.engine.selfcheck import check
from worker.models.registry import load


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sound_model_passes_and_the_engine_is_left_empty(
    checkpoint: Path, precision: str
) -> None:
    engine = Engine(as_generator(load(str(checkpoint), precision=precision, device="cpu")))
    check(engine)
    assert engine.idle
    assert len(engine.encoders[0].cache) == 0


def test_a_model_whose_output_is_not_finite_is_rejected(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        return model.encode(pixels) * torch.inf

    with pytest.raises(LoadError, match="not finite"):
        check(Engine(with_methods(model, encode=encode)))


def test_a_model_with_empty_texts_is_rejected(model: Generator) -> None:
    def text(request: Request, prompt: Prompt, new: list[int]) -> str:
        return ""

    with pytest.raises(LoadError, match="empty"):
        check(Engine(with_methods(model, text=text)))


def test_a_model_whose_rows_depend_on_their_neighbours_is_rejected(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        return features / len(pixels)

    with pytest.raises(LoadError, match="differently"):
        check(Engine(with_methods(model, encode=encode)))


def test_a_model_that_fails_is_rejected_with_the_reason(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(LoadError, match="no kernel image"):
        check(Engine(with_methods(model, decode=decode)))
