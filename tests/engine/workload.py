"""Requests to an engine under test, and models with some methods replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.engine.engine import Engine
from worker.engine.model import Generator
from worker.engine.request import Answer, GenerationOptions, Request

LONG = GenerationOptions(max_new_tokens=10, min_new_tokens=10)
DECODER_METHODS = frozenset({"prefill", "decode", "generate"})


class Proxy:
    """An object with some methods replaced."""

    def __init__(self, original: Any, methods: dict[str, Any]) -> None:
        self._original = original
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def with_methods(model: Generator, **methods: Callable[..., Any]) -> Any:
    """Replace methods of a model or of its decoder."""
    of_decoder = {name: method for name, method in methods.items() if name in DECODER_METHODS}
    of_model = {name: method for name, method in methods.items() if name not in of_decoder}
    return Proxy(model, of_model | {"decoder": Proxy(model.decoder, of_decoder)})


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def ask(number: int, image: int | None = None, **fields: Any) -> Request:
    """Build a request whose id is `number`, about an image of one shade."""
    shade = number if image is None else image
    pixels = bytes([10 + 20 * shade % 240, 90, 200 - 9 * shade % 200] * 16 * 16)
    defaults: dict[str, Any] = {"task": "caption", "text": "", "options": LONG}
    return Request(id=number, image_hash=f"image-{shade}", pixels=pixels, **defaults | fields)


def run(engine: Engine, *requests: Request) -> dict[int | str, Answer]:
    """Run requests to their end; return their answers by id."""
    for request in requests:
        engine.add(request)
    answers: dict[int | str, Answer] = {}
    for _ in range(500):
        if engine.idle:
            return answers
        for answer in engine.step():
            assert answer.id not in answers
            answers[answer.id] = answer
    raise AssertionError("the engine never became idle")


def rows_in(engine: Engine) -> int:
    """Count the rows in slots and lanes."""
    assert engine.decoding is not None
    return engine.decoding.slots.count + sum(lane.active + lane.waiting for lane in engine.lanes)


def codes(answers: dict[int | str, Answer]) -> list[str | None]:
    """Return the error codes of answers in the order of their ids."""
    return [answers[number].error_code for number in sorted(answers, key=str)]
