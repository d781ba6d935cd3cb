"""The self-check before the first request: models answer, and batching does not change answers.

Some checkpoints load without an error and then return empty texts (int8, int4) or overflow (half
precision). An engine with such a model must not start.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import cast

import torch

from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.frame import Frame
from worker.engine.generating import GeneratingLane
from worker.engine.model import Generator, GroupGenerator, Matcher, Model, Vision
from worker.engine.request import Answer, GenerationOptions, Request

log = logging.getLogger(__name__)

#: Short texts, but long enough that rows of unequal length share steps.
OPTIONS = GenerationOptions(max_new_tokens=8, min_new_tokens=2)
BATCH_ROWS = 4
TEXTS = ("a red square", "a photograph of two people at a long table")
QUESTION = "what is in the picture?"
#: Side of the sample images of a model that resizes images itself.
SAMPLE_SIDE = 96
#: Tokens whose logits are compared.
LOGITS = 3
#: Maximum difference of logits, as a part of their range, in half precision and in fp32. Rows that
#: read their padding differ by far more.
LOGIT_TOLERANCE = (0.05, 1e-3)
#: Maximum rounding difference of P(match) and cosines between a row in a batch and a single row.
TOLERANCE = 1e-3


def check(engine: Engine) -> None:
    """Check the models of an idle engine. Raises LoadError with the reason."""
    if engine.model is not None:
        check_finite(engine, engine.model)
        check_generator(engine, engine.model)
        check_adapters(engine, engine.model, sample_request(engine.model, 0))
    if engine.generating is not None:
        check_groups(engine, engine.generating)
        model = engine.generating.model
        check_adapters(engine, model, group_request(model, 0))
    if engine.matcher is not None:
        check_matcher(engine, engine.matcher)


@torch.inference_mode()
def check_finite(engine: Engine, model: Generator) -> None:
    """Check that the first logits of a sample image are finite."""
    assert engine.decoding is not None
    pixels = torch.frombuffer(bytearray(picture(model.frame, 0)), dtype=torch.uint8)
    pixels = pixels.view(1, model.frame.height, model.frame.width, 3).to(model.device)
    prompts = [model.prompt(sample_request(model, 0))]
    inputs = model.condition(model.encode(pixels), prompts)
    logits = model.decoder.prefill(inputs, prompts, engine.decoding.slots)
    engine.decoding.slots.drop([0])
    if not logits.isfinite().all():
        raise not_finite(model)


def check_generator(engine: Engine, model: Generator) -> None:
    """Check that texts are not empty and do not depend on the batch."""
    requests = [sample_request(model, number) for number in range(BATCH_ROWS)]
    together, alone = run(engine, requests), run(engine, requests[:1])
    raise_on_error(model, together + alone)
    if not any(answer.text for answer in together):
        raise empty_texts(model)
    # Half precision rounds differently at each batch size: only fp32 must be equal.
    if model.precision == "fp32" and together[0].text != alone[0].text:
        raise batching_error(model)


def check_adapters(engine: Engine, model: Model, sample: Request) -> None:
    """Check that the model answers with each of its named adapters."""
    for info in model.adapters.infos:
        (answer,) = run(engine, [replace(sample, adapter=info.name)])
        if answer.error_code is not None:
            raise LoadError(
                f"Adapter {info.name!r} of model {model.name!r} fails on a sample image:"
                f" {answer.error_message}"
            )


def check_groups(engine: Engine, lane: GeneratingLane) -> None:
    """Check that texts are not empty; a model whose rows depend on the batch runs row by row."""
    model = lane.model
    requests = [group_request(model, number) for number in range(BATCH_ROWS)]
    answers = run(engine, requests)
    raise_on_error(model, answers)
    if not any(answer.text for answer in answers):
        raise empty_texts(model)
    if lane.group_rows > 1 and not rows_are_independent(model, requests[:2]):
        log.warning("%s: its rows depend on their batch, so it runs row by row", model.name)
        lane.group_rows = 1


@torch.inference_mode()
def rows_are_independent(model: GroupGenerator, requests: list[Request]) -> bool:
    """Return whether the first logits of padded rows equal those of each row alone."""
    try:
        together, batch = model.first_logits(model.collate(requests), LOGITS)
    except torch.AcceleratorError:
        raise
    except (RuntimeError, ValueError, MemoryError):
        return False  # single rows have just run without an error
    for request, tokens, padded in zip(requests, together, batch, strict=True):
        (expected,), (single,) = model.first_logits(model.collate([request]), LOGITS)
        if not single.isfinite().all():
            raise not_finite(model)
        # After the first token that differs, so does all that follows.
        equal = [a == b for a, b in zip(tokens, expected, strict=True)]
        steps = equal.index(False) + 1 if False in equal else LOGITS
        difference = (padded[:steps] - single[:steps]).abs().max()
        scale = single.max() - single.min()
        if not difference <= LOGIT_TOLERANCE[model.precision == "fp32"] * scale:
            return False
    return True


def check_matcher(engine: Engine, model: Matcher) -> None:
    """Check that scores are finite and do not depend on the batch."""
    requests = [sample_request(model, number) for number in range(BATCH_ROWS)]
    together, alone = run(engine, requests), run(engine, requests[:1])
    raise_on_error(model, together + alone)
    pairs = zip(together[0].scores, alone[0].scores, strict=True)
    differences = [abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)]
    if not all(difference < float("inf") for difference in differences):
        raise not_finite(model)
    if model.precision == "fp32" and max(differences) > TOLERANCE:
        raise batching_error(model)


def raise_on_error(model: Model, answers: list[Answer]) -> None:
    for answer in answers:
        if answer.error_code is not None:
            raise LoadError(f"Model {model.name!r} fails on a sample image: {answer.error_message}")


def empty_texts(model: Model) -> LoadError:
    return LoadError(
        f"Model {model.name!r} in {model.precision} returns only empty texts; use another"
        " precision or checkpoint."
    )


def not_finite(model: Model) -> LoadError:
    return LoadError(
        f"Model {model.name!r} in {model.precision} computes numbers that are not finite; use"
        " bf16 or fp32."
    )


def batching_error(model: Model) -> LoadError:
    return LoadError(
        f"Model {model.name!r} answers differently in a batch than by itself; use another version"
        " of torch or transformers."
    )


def sample_request(model: Model, number: int, frame: Frame | None = None) -> Request:
    """Return the sample request of a number: tasks alternate, and text lengths differ."""
    tasks = sorted(model.tasks - {"chat", "embed"})
    task = tasks[number % len(tasks)]
    return Request(
        f"selfcheck-{number}",
        task,
        f"selfcheck-{number}",
        picture(frame or cast("Vision", model).frame, number),
        " ".join([QUESTION] * (number + 1)) if task == "vqa" else "",
        OPTIONS,
        texts=TEXTS if task == "match" else (),
    )


def group_request(model: GroupGenerator, number: int) -> Request:
    """Return the sample request of a number for a model that resizes images itself."""
    side = min(SAMPLE_SIDE, model.image_size)
    frame = Frame(side // (1 + number % 2), side, None)
    ppm = b"P6 %d %d 255\n" % (side, frame.height) + picture(frame, number)
    return replace(sample_request(model, number, frame), pixels=ppm)


def picture(frame: Frame, number: int) -> bytes:
    """Draw a red, green or blue rectangle on grey."""
    grey, color = bytes([128] * 3), bytes(220 if c == number % 3 else 30 for c in range(3))
    columns, lines = middle(frame.width), middle(frame.height)
    rows = [
        [color if x in columns and y in lines else grey for x in range(frame.width)]
        for y in range(frame.height)
    ]
    return b"".join(b"".join(row) for row in rows)


def middle(size: int) -> range:
    """Return the positions without the first and the last quarter."""
    return range(size // 4, size - size // 4)


def run(engine: Engine, requests: list[Request]) -> list[Answer]:
    """Run requests without cached features; return the answers in their order."""
    clear(engine)
    for request in requests:
        engine.add(request)
    answers = {}
    while not engine.idle:
        answers.update({answer.id: answer for answer in engine.step()})
    clear(engine)
    return [answers[request.id] for request in requests]


def clear(engine: Engine) -> None:
    for encoder in engine.encoders:
        encoder.cache.clear()
