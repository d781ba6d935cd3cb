"""Warm-up: its measurements, and its error where memory is short."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.workload import ask, codes, rows_in, run, with_methods
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import Generator, Prompt
from worker.engine.warmup import warm_up


def test_warming_up_measures_a_prefill_and_leaves_the_engine_empty(model: Generator) -> None:
    engine = Engine(model, max_rows=4)
    warm_up(engine)
    assert engine.decoding is not None
    assert 0 <= engine.decoding.scheduler.prefill_steps <= 4
    assert engine.idle
    assert rows_in(engine) == 0
    assert codes(run(engine, ask(1))) == [None]


def test_warming_up_says_when_the_rows_do_not_fit(model: Generator) -> None:
    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(LoadError, match="fewer rows"):
        warm_up(Engine(with_methods(model, prefill=prefill), max_rows=4))
