"""The decoding lane: a row that fails does not affect the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.workload import ask, codes, run, with_methods
from worker.engine.engine import Engine
from worker.engine.model import Generator, Prompt
from worker.engine.request import GenerationOptions


def test_an_image_the_encoder_cannot_take_fails_alone(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        if (pixels[:, 0, 0, 0] == 10).any():
            raise RuntimeError("bad image")
        return model.encode(pixels)

    engine = Engine(with_methods(model, encode=encode))
    answers = run(engine, *(ask(n, image=n % 4) for n in range(8)))
    assert codes(answers) == ["internal", None, None, None] * 2
    assert "bad image" in answers[0].error_message


def test_a_row_that_cannot_be_prefilled_fails_alone(model: Generator) -> None:
    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(len(prompt.start) > 20 for prompt in prompts):
            raise RuntimeError("no kernel")
        return model.decoder.prefill(features, prompts, slots)

    bad = ask(3, text="a very long prompt with far too many words")
    requests = [*(ask(n) for n in range(3)), bad, *(ask(n) for n in range(4, 8))]
    answers = run(Engine(with_methods(model, prefill=prefill)), *requests)
    assert codes(answers) == [None] * 3 + ["internal"] + [None] * 4
    alone = {n: run(Engine(model), ask(n))[n].text for n in (2, 4)}
    assert {n: answers[n].text for n in (2, 4)} == alone


def test_a_row_that_cannot_be_decoded_fails_alone(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        if any(length == 8 for length in slots.lengths[start:stop]):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.decoder.decode(slots, start, stop)

    bad = ask(1, text="")  # 5 tokens of prompt: the others never have a length of 8
    others = [ask(n, text=" a photo of a red circle above") for n in (0, 2, 3)]
    answers = run(Engine(with_methods(model, decode=decode)), others[0], bad, *others[1:])
    assert codes(answers) == [None, "out_of_memory", None, None]
    expected = run(Engine(model), *others)
    assert {n: answers[n].text for n in (0, 2, 3)} == {n: a.text for n, a in expected.items()}


def test_numbers_that_are_not_finite_harm_neither_neighbours_nor_successors(
    model: Generator,
) -> None:
    is_poisoned = True

    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        if is_poisoned:
            features[pixels[:, 0, 0, 0] == 70] = torch.nan  # request 3
        return features

    # Given a row with NaNs in the last slot, where no other row moves in, with a long prompt, so
    # that the slot has more tokens than a short row writes
    requests = [ask(n, text=" a photo of a red circle above") for n in range(4)]
    engine = Engine(
        with_methods(model, encode=encode), max_rows=4, feature_bytes=0, reserved_rows=0
    )
    answers = run(engine, *requests)
    assert codes(answers) == [None, None, None, "internal"]
    clean = run(Engine(model), *requests)
    assert [answers[n].text for n in range(3)] == [clean[n].text for n in range(3)]
    # When a short row takes that slot, beside longer ones: attention then reaches past its end
    is_poisoned = False
    for request in requests[:3]:
        engine.add(request)
    engine.step()
    late = ask(3, interactive=True)
    assert run(engine, late)[3] == run(Engine(model), late)[3]


def test_a_broken_device_ends_the_step(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with pytest.raises(torch.AcceleratorError):
        run(Engine(with_methods(model, decode=decode)), ask(1))


def test_a_long_prompt_does_not_pad_the_short_ones(model: Generator) -> None:
    widths = []

    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        widths.append((len(prompts), max(len(prompt.start) for prompt in prompts)))
        return model.decoder.prefill(features, prompts, slots)

    long = ask(9, text=" a photo of" * 30)
    engine = Engine(with_methods(model, prefill=prefill))
    answers = run(engine, *(ask(n) for n in range(6)), long)
    assert [rows for rows, _ in widths] == [6, 1]
    assert answers[9].text == run(Engine(model), long)[9].text


def test_one_long_row_that_memory_cannot_hold_fails_alone(
    model: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, max_rows=4)
    monkeypatch.setattr("worker.engine.device.free_bytes", lambda device: 2**17)
    long = ask(1, options=GenerationOptions(max_new_tokens=90, min_new_tokens=90))
    answers = run(engine, ask(0), long, ask(2))
    assert codes(answers) == [None, "out_of_memory", None]
