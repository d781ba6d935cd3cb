"""Freshly drawn scenes through the whole system, against the truth and against transformers."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from PIL import Image

from demo.scenes import random_picture, random_scene
from producer import Client
from tests.system import reference

SCENES = 50


@dataclass(frozen=True)
class Request:
    """A request about a picture, and its true answer."""

    picture: Image.Image
    question: str | None
    truth: str

    @property
    def item(self) -> dict[str, object]:
        if self.question is None:
            return {"image": png(self.picture), "task": "caption"}
        return {"image": png(self.picture), "task": "vqa", "question": self.question}


def by_transformers(requests: Sequence[Request]) -> list[str]:
    """Return the texts of plain transformers, in batches of equal prompts."""
    pictures = defaultdict(list)
    for request in requests:
        pictures[request.question].append(request.picture)
    texts = {
        question: iter(
            reference.captions(images) if question is None else reference.answers(images, question)
        )
        for question, images in pictures.items()
    }
    return [next(texts[request.question]) for request in requests]


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def draw_requests(seed: int, scenes: int = SCENES) -> list[Request]:
    """Return a caption and a question for each of new scenes, in random order."""
    rng, requests = Random(seed), []
    for _ in range(scenes):
        scene = random_scene(rng)
        picture = random_picture(rng, scene, largest=640)
        question = rng.choice(scene.questions())
        requests.append(Request(picture, None, scene.caption()))
        requests.append(Request(picture, question.question, question.answer))
    rng.shuffle(requests)
    return requests


@pytest.mark.parametrize("scenes", [SCENES, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_texts_are_right_and_equal_those_of_plain_transformers(user: Client, scenes: int) -> None:
    requests = draw_requests(20, scenes)
    # Chunks of seven: requests of different tasks and lengths share chunks and decode steps.
    batch = user.submit_batch((request.item for request in requests), chunk_items=7)
    texts = [result.text for result in batch.results(timeout=60)]

    assert texts == by_transformers(requests)
    for kind in ("captions", "answers"):
        correct = [
            text == request.truth
            for request, text in zip(requests, texts, strict=True)
            if (request.question is None) == (kind == "captions")
        ]
        assert sum(correct) / len(correct) >= 0.95, (
            f"{kind}: {sum(correct)} of {len(correct)} right"
        )


def test_interactive_jobs_have_the_same_results_as_a_batch(user: Client) -> None:
    requests = draw_requests(seed=21)[:24]
    batch = user.submit_batch(request.item for request in requests)
    jobs = [
        user.caption(request.picture)
        if request.question is None
        else user.ask(request.picture, request.question)
        for request in requests
    ]
    assert [job.result(timeout=60) for job in jobs] == [
        result.text for result in batch.results(timeout=60)
    ]


def test_a_conditional_caption_begins_with_its_prompt(user: Client) -> None:
    (request,) = [request for request in draw_requests(seed=22) if request.question is None][:1]
    text = user.caption(request.picture, prompt="a green").result(timeout=60)
    assert text.startswith("a green ")
    assert text == reference.caption(request.picture, "a green")


def test_seeded_sampling_is_the_same_alone_and_in_company(user: Client) -> None:
    picture = draw_requests(seed=23)[0].picture
    options: dict[str, Any] = {"temperature": 3.0, "seed": 11, "max_new_tokens": 12}
    alone = user.caption(picture, **options).result(timeout=60)
    batch = user.submit_batch([png(picture)] * 9, **options)
    assert {result.text for result in batch.results(timeout=60)} == {alone}
