"""Pending items: the state of an item from its validation to its result."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from producer import contract
from producer.contract import ErrorCode, ItemResult, MatchPayload, Task
from worker.consumer.validation import CheckedItem
from worker.engine.protocol import AdapterInfo, ModelInfo, unknown_adapter
from worker.engine.request import Answer, GenerationOptions
from worker.errors import ItemRejected
from worker.images.loader import ImageLoader, ImageRequest, Pixels
from worker.recipes.answers import rank_answers
from worker.recipes.capfilt import capfilt
from worker.recipes.describe import describe
from worker.recipes.recipe import ModelCall, Recipe
from worker.recipes.sequences import options_of_rows, text_result

#: The pixels of an item without an image.
NO_PIXELS = Pixels("", None)
#: The engine task of the additional model that ranks texts.
MATCH = "match"


@dataclass(slots=True)
class RunningCall:
    """A call of a recipe and its future answer."""

    call: ModelCall
    answer: Future[Answer]


@dataclass(slots=True)
class PendingItem:
    """An item that is being processed."""

    item: CheckedItem
    #: The item's image for the model of each of its calls, by the engine's task; the model of the
    #: item's own task comes first.
    images: dict[str, ImageRequest]
    options: GenerationOptions
    #: The adapter of the model of the item's own task, if it names one.
    adapter: AdapterInfo | None = None
    #: The pixels of each of these images, once they are loaded.
    pixels: dict[ImageRequest, Pixels] = field(default_factory=dict)
    #: Key of the image's pixels for the first model, once known; "" if the item has no image.
    hash: str | None = None
    #: Key of its result in the result cache; None if it is not cacheable.
    key: str | None = None
    recipe: Recipe | None = None
    calls: list[RunningCall] = field(default_factory=list)
    result: ItemResult | None = None
    cached: bool = False

    @property
    def image(self) -> ImageRequest:
        """The image for the model of the item's task."""
        return next(iter(self.images.values()))

    @property
    def revision(self) -> str:
        """The revisions of all models, and of the adapter, that the result depends on."""
        parts = [image.model.revision for image in self.images.values()]
        return " ".join(parts if self.adapter is None else [*parts, self.adapter.revision])

    @property
    def is_loaded(self) -> bool:
        """True if the image is loaded for all models, or there is none."""
        return not self.image.reference or all(i in self.pixels for i in self.images.values())

    @property
    def cacheable(self) -> tuple[str, ItemResult] | None:
        """The cache key and the result, if the result is new and may be cached."""
        result = self.result
        # Without its warning, a later description may be polished.
        if self.cached or self.key is None or not result or result.keys() & {"error", "warning"}:
            return None
        return self.key, result

    def adapter_for(self, task: str) -> str:
        """Return the name of the adapter for a call with this engine task; empty for none."""
        is_main = self.images.get(task, self.image) == self.image
        return "" if self.adapter is None or not is_main else self.adapter.name

    def pixels_for(self, task: str) -> Pixels:
        """Return the pixels for a call with this engine task."""
        return self.pixels.get(self.images.get(task, self.image), NO_PIXELS)


def models_of(item: CheckedItem, images: ImageLoader) -> dict[str, ModelInfo]:
    """Return the models of an item by the engine's task, the main one first.

    Raises ItemRejected if a model is missing.
    """
    if item.task is Task.CAPFILT:
        tasks = [Task.CAPTION] * bool(item.filter_terms.captions) + [Task.MATCH]
        return {task.short: images.model(task, item.task) for task in tasks}
    models = {item.task.short: images.model(item.task)}
    if item.task is Task.DESCRIBE and (matcher := images.matcher()) is not None:
        models[MATCH] = matcher
    return models


def adapter_of(item: CheckedItem, model: ModelInfo) -> AdapterInfo | None:
    """Return the adapter that an item names; raises ItemRejected for one that is unknown."""
    if (message := unknown_adapter(item.adapter, model.adapters)) is not None:
        raise ItemRejected(ErrorCode.OPTION_INVALID, message)
    return next((info for info in model.adapters if info.name == item.adapter), None)


def image_requests(
    item: CheckedItem, models: Mapping[str, ModelInfo], adapter: AdapterInfo | None
) -> dict[str, ImageRequest]:
    """Return the image of an item for each of its models, of which the first has the adapter."""
    requests = {name: ImageRequest(item.item.image, model) for name, model in models.items()}
    if adapter is not None and adapter.changes_features:
        main = next(iter(requests))
        requests[main] = requests[main]._replace(adapter=adapter.revision)
    return requests


def has_growing_text(pending: PendingItem) -> bool:
    """Return whether an item has one call whose text, while it grows, begins the item's text.

    Beams change their minds, ranked answers are no text, and samples are calls of their own.
    """
    item, options = pending.item, pending.options
    is_text = item.task in (Task.CAPTION, Task.VQA, Task.CHAT) and not item.answers
    return is_text and options.num_beams == options.num_return_sequences == 1


def recipe_of(pending: PendingItem, *, polishes: bool) -> Recipe:
    """Return the recipe of an item's task."""
    item, options = pending.item, pending.options
    if item.task is Task.DESCRIBE:
        ranks = MATCH in pending.images
        return describe(item.prompts, item.detail, options, ranks=ranks, polishes=polishes)
    if item.task is Task.CAPFILT:
        return capfilt(item.texts, item.filter_terms, options)
    if item.answers:
        return rank_answers(item.text, item.answers, options)
    return _single_call(pending)


def _single_call(pending: PendingItem) -> Recipe:
    """Answer an item by one call with its own task, or one for each sampled text."""
    item, options = pending.item, pending.options
    answers = yield [
        ModelCall(item.task.short, item.text, row_options, item.history, item.texts)
        for row_options in options_of_rows(options)
    ]
    return result_of(item, answers, options, pending.revision)


def result_of(
    item: CheckedItem, answers: list[Answer], options: GenerationOptions, revision: str
) -> ItemResult:
    """Return the result of an item's task from the answers of a model of this revision."""
    answer = next((each for each in answers if each.error_code is not None), answers[0])
    if answer.error_code is not None:
        return contract.failure(answer.error_code, answer.error_message)
    if item.task is Task.EMBED:
        embedding = [round(value, 7) for value in answer.embedding]
        return {"embedding": embedding, "revision": revision}
    if item.task is Task.MATCH:
        matches: list[MatchPayload] = [
            {"text": text, "probability": round(probability, 7), "cosine": round(cosine, 7)}
            for text, (probability, cosine) in zip(item.texts, answer.scores, strict=True)
        ]
        _, likeliest = max((score, -index) for index, (score, _) in enumerate(answer.scores))
        return {"text": item.texts[-likeliest], "matches": matches}
    return text_result(answers, options)
