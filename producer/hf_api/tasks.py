"""Tasks of this API: each becomes jobs of the gateway, and their results its output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..gateway.jobs.awaited_jobs import MAX_JOBS
from ..gateway.schemas.task_fields import (
    CaptionFields,
    EmbedFields,
    MatchFields,
    TaskFields,
    VqaFields,
)
from ..job import Match, Result
from ..ledger.data_url import is_data_url
from .errors import invalid
from .parameters import check_parameters, generation_fields
from .payload import TaskPayload

#: Template of the pipeline in transformers.
HYPOTHESIS_TEMPLATE: Final = "This is a photo of {}."
#: Smallest probability of a text and of its opposite, because their ratio must be finite.
_MIN_PROBABILITY: Final = 1e-7


@dataclass(frozen=True, slots=True)
class TaskJob:
    """A job of a request."""

    model: type[TaskFields]
    fields: dict[str, Any]
    image: bytes | None = None
    #: Names of its fields in the request, for errors.
    names: Mapping[str, str] = field(default_factory=dict)


class InferenceTask(Protocol):
    """A task of this API."""

    def jobs(self, payload: TaskPayload) -> Iterator[TaskJob]:
        """Yield the jobs of a request; raises Problem."""
        ...

    def output(self, payload: TaskPayload, results: Sequence[Result]) -> Any:
        """Return the output for the results of these jobs, in their order."""
        ...


class ImageToText:
    """Caption of an image."""

    def jobs(self, payload: TaskPayload) -> Iterator[TaskJob]:
        """Yield the job; the parameters are generation options, as transformers names them."""
        fields = generation_fields(payload.parameters)
        yield _image_job(CaptionFields, payload.inputs, fields, payload.image)

    def output(self, payload: TaskPayload, results: Sequence[Result]) -> Any:
        """Return the text."""
        return [{"generated_text": results[0].text or ""}]


class VisualQuestionAnswering:
    """Answer to a question about an image."""

    def jobs(self, payload: TaskPayload) -> Iterator[TaskJob]:
        """Yield the job; `top_k`, the number of answers, has no effect: there is one."""
        if not isinstance(payload.inputs, dict):
            raise invalid("inputs", "an object with image and question is needed")
        if unknown := sorted(payload.inputs.keys() - {"image", "question"}):
            raise invalid(f"inputs.{unknown[0]}", "is unknown")
        parameters = dict(payload.parameters)
        top_k = parameters.pop("top_k", 1)
        if type(top_k) is not int or top_k < 1:
            raise invalid("top_k", "must be an integer of at least 1")
        fields = {**generation_fields(parameters), **payload.inputs}
        yield _image_job(VqaFields, payload.inputs.get("image"), fields, None)

    def output(self, payload: TaskPayload, results: Sequence[Result]) -> Any:
        """Return the answer; as with every generative model in transformers, it has no score."""
        return [{"answer": results[0].text or ""}]


class ZeroShotImageClassification:
    """Probabilities of labels, of which exactly one describes the image."""

    def jobs(self, payload: TaskPayload) -> Iterator[TaskJob]:
        """Yield a match with a text for each label."""
        check_parameters(payload.parameters, {"candidate_labels", "hypothesis_template"})
        template = payload.parameters.get("hypothesis_template", HYPOTHESIS_TEMPLATE)
        if not isinstance(template, str) or "{}" not in template:
            raise invalid("hypothesis_template", "must be a text with {} in place of the label")
        texts = [template.replace("{}", label) for label in _labels(payload)]
        names = {"texts": "candidate_labels"}
        yield _image_job(MatchFields, payload.inputs, {"texts": texts}, payload.image, names)

    def output(self, payload: TaskPayload, results: Sequence[Result]) -> Any:
        """Return the softmax over the labels, the likeliest first."""
        scores = softmax([_log_odds(match) for match in results[0].matches or []])
        pairs = zip(_labels(payload), scores, strict=True)
        return [
            {"label": label, "score": score}
            for label, score in sorted(pairs, key=lambda pair: -pair[1])
        ]


class FeatureExtraction:
    """Unit vectors of texts, and of images as `data:` URLs."""

    def jobs(self, payload: TaskPayload) -> Iterator[TaskJob]:
        """Yield a job for each text."""
        check_parameters(payload.parameters, set())
        if payload.image is not None:
            yield TaskJob(EmbedFields, {}, payload.image)
            return
        texts = [payload.inputs] if isinstance(payload.inputs, str) else payload.inputs
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_JOBS:
            raise invalid("inputs", f"must be a text or a list of 1 to {MAX_JOBS} texts")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise invalid(f"inputs.{index}", "must be a text")
            name = "image" if is_data_url(text) else "text"
            source = "inputs" if texts is not payload.inputs else f"inputs.{index}"
            yield TaskJob(EmbedFields, {name: text}, names={name: source})

    def output(self, payload: TaskPayload, results: Sequence[Result]) -> Any:
        """Return a vector for a text or an image, and a list of vectors for a list."""
        vectors = [result.embedding or [] for result in results]
        return vectors if isinstance(payload.inputs, list) else vectors[0]


#: Tasks by their names.
TASKS: Final[Mapping[str, InferenceTask]] = {
    "image-to-text": ImageToText(),
    "visual-question-answering": VisualQuestionAnswering(),
    "zero-shot-image-classification": ZeroShotImageClassification(),
    "feature-extraction": FeatureExtraction(),
}


def softmax(values: Sequence[float]) -> list[float]:
    """Return positive numbers of the sum 1, in the ratios of the exponentials of the values."""
    largest = max(values, default=0.0)
    powers = [math.exp(value - largest) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def _log_odds(match: Match) -> float:
    """Return the logarithm of the odds that a text describes the image.

    The softmax of these is the probability of each label if exactly one is right: image-text
    matching judges each text alone.
    """
    probability = min(max(match.probability, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(probability / (1 - probability))


def _labels(payload: TaskPayload) -> list[str]:
    labels = payload.parameters.get("candidate_labels")
    if not isinstance(labels, list) or not labels:
        raise invalid("candidate_labels", "must be a list of texts")
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise invalid(f"candidate_labels.{index}", "must be a text")
    return labels


def _image_job(
    model: type[TaskFields],
    image: Any,
    fields: Mapping[str, Any],
    data: bytes | None,
    names: Mapping[str, str] | None = None,
) -> TaskJob:
    """Return a job about an image: its bytes, or a reference such as base64 or a URL."""
    reference = {} if data is not None else {"image": image}
    return TaskJob(model, {**fields, **reference}, data, {"image": "inputs", **(names or {})})
