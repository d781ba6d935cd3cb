"""Recipes in the item pipeline, with an engine and an image loader that answer immediately."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import redis

from producer.contract import Task
from worker.consumer import pipeline
from worker.consumer.chunk_options import read_options
from worker.consumer.item_handler import ChunkState
from worker.consumer.pending import recipe_of
from worker.consumer.pipeline import ItemPipeline
from worker.consumer.result_cache import ResultCache
from worker.engine.protocol import ModelInfo
from worker.engine.request import IMAGE_NEEDED, Answer, Request
from worker.images.loader import ImageRequest, Pixels

WRITER = ModelInfo("writer", "1", 2, 3, ("caption",))
MATCHER = ModelInfo("matcher", "1", 4, 3, ("match",))
BLOB = "blob:" + "0" * 64
OPTIONS = read_options({}, False, 0.0)


class Images:
    """An image loader whose images are in the engine's feature cache."""

    def __init__(self) -> None:
        self.reloads: list[str] = []

    def model(self, task: Task) -> ModelInfo:
        return WRITER

    def matcher(self) -> ModelInfo:
        return MATCHER

    def known_hash(self, request: ImageRequest) -> str:
        return f"hash {request.model.name}"

    def get(
        self, requests: Iterable[ImageRequest], deadline: float | None
    ) -> Iterator[tuple[ImageRequest, Pixels]]:
        for request in requests:
            yield request, Pixels(self.known_hash(request), None)

    def reload(self, request: ImageRequest, deadline: float | None) -> Pixels:
        self.reloads.append(request.model.name)
        return Pixels(self.known_hash(request), b"pixels")


class Engine:
    """An engine that answers by a function."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        self._answer = answer

    def submit(self, build: Callable[[int], Request], on_text: object) -> Future[Answer]:
        request = build(len(self.requests))
        self.requests.append(request)
        future: Future[Answer] = Future()
        future.set_result(self._answer(request))
        return future


def answer(request: Request) -> Answer:
    if request.task == "match":
        return Answer(request.id, scores=((0.9, 0.1),))
    return Answer(request.id, f"{request.text} a cat", 3)


def describe(
    engine: Engine, images: Images, count: int = 1, state: ChunkState | None = None
) -> list[Any]:
    handler: Any = ItemPipeline
    items = [{"image": BLOB, "detail": "low", "prompts": [str(number)]} for number in range(count)]
    runner = handler(images, engine, ResultCache(redis.Redis(), 0))
    results: list[Any] = runner.answer(Task.DESCRIBE, items, OPTIONS, state or ChunkState())
    return results


def test_features_that_were_evicted_are_reloaded_once_for_each_model() -> None:
    def evicted(request: Request) -> Answer:
        if request.pixels is None:
            return Answer(request.id, error_code=IMAGE_NEEDED)
        return answer(request)

    engine, images = Engine(evicted), Images()
    (result,) = describe(engine, images)
    assert result["text"] == "0 a cat."
    assert images.reloads == ["writer", "matcher"]
    hashes = {(request.task, request.image_hash) for request in engine.requests}
    assert hashes == {("caption", "hash writer"), ("match", "hash matcher")}


def test_the_rounds_of_a_chunks_items_overlap() -> None:
    engine = Engine(answer)
    results = describe(engine, Images(), 3)
    assert [result["text"] for result in results] == ["0 a cat.", "1 a cat.", "2 a cat."]
    assert [request.task for request in engine.requests] == ["caption"] * 3 + ["match"] * 3


def test_a_chunk_that_is_cancelled_starts_no_further_round() -> None:
    state = ChunkState()

    def cancel(request: Request) -> Answer:
        state.cancelled = True
        return answer(request)

    engine = Engine(cancel)
    (result,) = describe(engine, Images(), state=state)
    assert result["error"]["code"] == "cancelled"
    assert len(engine.requests) == 1


def test_a_recipe_that_fails_is_the_error_of_its_item_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def faulty(pending: Any, **settings: Any) -> Any:
        if pending.item.prompts == ("1",):
            return (1 // 0 for _ in range(1))
        return recipe_of(pending, **settings)

    monkeypatch.setattr(pipeline, "recipe_of", faulty)
    results = describe(Engine(answer), Images(), 3)
    assert results[1]["error"]["code"] == "internal"
    assert [result.get("text") for result in results] == ["0 a cat.", None, "2 a cat."]
