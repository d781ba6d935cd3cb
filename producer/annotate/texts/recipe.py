"""A recipe: the texts that each image gets, and the requests that produce them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ...contract import Task

#: Options of a text that replaces a banned one, or of a further caption, if the caller's options
#: are deterministic: nucleus sampling, as BLIP's own captioner for training sets.
SAMPLED: Final[Mapping[str, Any]] = {"temperature": 1.0, "top_p": 0.9}
#: Options that exclude sampling.
GROUP_OPTIONS: Final = frozenset({"num_beam_groups", "diversity_penalty"})

#: Seeds lie below it.
MAX_SEED: Final = 1 << 63


@dataclass(frozen=True)
class TextRequest:
    """One request about an image: the fields of its item, and the options of its batch."""

    task: Task
    fields: Mapping[str, Any]
    options: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """Hash of the request, without the image."""
        return _digest([self.task.short, dict(self.fields), dict(self.options)])

    @cached_property
    def lane(self) -> str:
        """Hash of the options: requests of one lane share a batch."""
        return _digest([self.task.short, dict(self.options)])


@dataclass(frozen=True)
class WantedText:
    """One text that each image gets; the first attempt without a banned phrase is taken."""

    #: The question; empty for a caption.
    question: str
    #: Never empty.
    attempts: Sequence[TextRequest]


@dataclass(frozen=True)
class Recipe:
    """The texts that each image gets."""

    texts: Sequence[WantedText]

    @cached_property
    def digest(self) -> str:
        """Hash of all first requests, and of the number of attempts."""
        return _digest([[text.attempts[0].digest, len(text.attempts)] for text in self.texts])


def captions(
    task: Task, fields: Mapping[str, Any], count: int, attempts: int, options: Mapping[str, Any]
) -> Recipe:
    """Return the recipe of `count` captions of an image, each from other random numbers."""
    return Recipe(
        [
            WantedText("", _attempts(task, fields, options, attempts, number))
            for number in range(count)
        ]
    )


def answers(
    questions: Sequence[str],
    fields: Mapping[str, Any],
    attempts: int,
    options: Mapping[str, Any],
) -> Recipe:
    """Return the recipe of one answer to each question."""
    texts = []
    for question in questions:
        item = {**fields, "question": question}
        texts.append(WantedText(question, _attempts(Task.VQA, item, options, attempts, 0)))
    return Recipe(texts)


def _attempts(
    task: Task, fields: Mapping[str, Any], options: Mapping[str, Any], attempts: int, number: int
) -> list[TextRequest]:
    """Return the requests of the caption of this number, each with a seed of its own."""
    requests = []
    for attempt in range(attempts):
        changed = dict(options)
        if number or attempt:
            if not options.get("temperature"):
                changed |= SAMPLED
                changed["num_beams"] = 1
                changed = {k: value for k, value in changed.items() if k not in GROUP_OPTIONS}
            # Attempts of different captions have different seeds.
            seed = (options.get("seed") or 0) + number + 1000 * attempt
            changed["seed"] = seed % MAX_SEED
        requests.append(TextRequest(task, fields, changed))
    return requests


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
