"""Before the first request: can this model answer at all, and does company change an answer?

Checkpoints that load without complaint and then say nothing are known (int8 and int4 that give
empty strings, half precision that overflows). An engine with such a model must not start.
"""

from __future__ import annotations

import torch

from worker.engine.loop import Engine
from worker.engine.request import Answer, GenerationOptions, Request
from worker.models import LoadError

#: Short, and long enough that rows of unequal length share steps.
OPTIONS = GenerationOptions(max_new_tokens=8, min_new_tokens=2)
COMPANY = 4


def check(engine: Engine) -> None:
    """Raises LoadError with one sentence that says why. The engine must be idle."""
    model = engine.model
    check_finite(engine)
    requests = [plain_request(engine, number) for number in range(COMPANY)]
    together = run(engine, requests)
    alone = [run(engine, [request])[0] for request in requests]
    for answer in together + alone:
        if answer.error_code is not None:
            raise LoadError(
                f"Model {model.name!r} fails on a plain picture: {answer.error_message}"
            )
    if not any(answer.text for answer in together):
        raise LoadError(
            f"Model {model.name!r} in {model.precision} gives only empty texts; use another"
            " precision or checkpoint."
        )
    # Half precision rounds differently in batches of different sizes: equality is for fp32 alone.
    if model.precision == "fp32" and [a.text for a in together] != [a.text for a in alone]:
        raise LoadError(
            f"Model {model.name!r} answers differently in a batch than alone; its batching"
            " cannot be trusted with this version of torch or transformers."
        )


@torch.inference_mode()
def check_finite(engine: Engine) -> None:
    """The first logits of a plain picture are finite."""
    model = engine.model
    pixels = torch.frombuffer(bytearray(picture(model.image_size, 0)), dtype=torch.uint8)
    pixels = pixels.view(1, model.image_size, model.image_size, 3).to(model.device)
    features = model.encode(pixels)
    logits = model.prefill(features, [model.prompt("caption", "")], engine.slots)
    engine.slots.drop([0])
    if not logits.isfinite().all():
        raise LoadError(
            f"Model {model.name!r} in {model.precision} computes numbers that are not finite; use"
            " bf16 or fp32."
        )


def plain_request(engine: Engine, number: int) -> Request:
    """Captions and questions in turn, so that prompts of unequal length share a batch."""
    task = sorted(engine.model.tasks)[number % len(engine.model.tasks)]
    text = "what is in the picture?" if task == "vqa" else ""
    pixels = picture(engine.model.image_size, number)
    return Request(f"selfcheck-{number}", task, f"selfcheck-{number}", pixels, text, OPTIONS)


def picture(size: int, number: int) -> bytes:
    """A red, green or blue square on grey."""
    grey, color = bytes([128] * 3), bytes(220 if c == number % 3 else 30 for c in range(3))
    inside = range(size // 4, size - size // 4)
    rows = [
        [color if x in inside and y in inside else grey for x in range(size)] for y in range(size)
    ]
    return b"".join(b"".join(row) for row in rows)


def run(engine: Engine, requests: list[Request]) -> list[Answer]:
    """Answers in the order of the requests, each image encoded anew."""
    engine.features.clear()
    for request in requests:
        engine.add(request)
    answers = {}
    while not engine.idle:
        answers.update({answer.id: answer for answer in engine.step()})
    engine.features.clear()
    return [answers[request.id] for request in requests]
