"""A request on its way through the engine, and what may keep it from getting anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from worker.engine.halving import Failure
from worker.engine.request import IMAGE_NEEDED, Request
from worker.models import Model

CANCELLED = Failure("cancelled", "The request was cancelled.")
EXPIRED = Failure("deadline_exceeded", "The deadline passed before the answer was complete.")
NOT_FINITE = Failure("internal", "The model computed no finite numbers for this row.")
EVICTED = Failure(IMAGE_NEEDED, "The image's features are gone; send its pixels again.")


@dataclass(slots=True)
class Row:
    """A request, its whole prompt, the features of its image until prefill, its new tokens."""

    request: Request
    prompt: list[int]
    feature: Tensor | None = None
    tokens: list[int] = field(default_factory=list)
    failure: Failure | None = None


def problem(row: Row, model: Model) -> Failure | None:
    """What keeps a request from ever being run, or None. Fills in the row's prompt."""
    request = row.request
    if request.task not in model.tasks:
        offered = ", ".join(sorted(model.tasks))
        return Failure("unsupported_task", f"This model offers {offered}, not {request.task}.")
    if (sentence := request.options.problem()) is not None:
        return Failure("option_invalid", sentence)
    if request.pixels is None and row.feature is None:
        return EVICTED
    size = model.image_size
    if request.pixels is not None and len(request.pixels) != size * size * 3:
        return Failure("image_invalid", f"Pixels must be {size}x{size} RGB, one byte each.")
    try:
        row.prompt = model.prompt(request.task, request.text)
    except (TypeError, ValueError):
        return Failure("option_invalid", "The text is not valid Unicode.")
    needed, new = len(row.prompt), request.options.max_new_tokens
    if needed + new > model.max_length:
        return Failure(
            "prompt_too_long",
            f"Image and prompt take {needed} tokens and {new} new ones are asked for;"
            f" the model holds {model.max_length}.",
        )
    return None
