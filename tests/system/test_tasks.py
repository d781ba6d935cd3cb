"""Dialogue, matching and embedding through the whole system, against plain transformers."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

from config.settings import DEMO_MATCH_MODEL
from demo.scenes import draw, random_scene
from producer import Client, JobFailed
from tests.system import reference

from .conftest import LONG

TEXTS = [
    "a red circle on a grey background",
    "a blue square left of a green star on a pink background",
    "something else",
]


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    rng, encoded = Random(11), []
    for _ in range(12):
        file = io.BytesIO()
        draw(random_scene(rng), 128, 96).save(file, "PNG")
        encoded.append(file.getvalue())
    return encoded


class Retrieval:
    """The retrieval model in plain transformers, one pair at a time."""

    def __init__(self) -> None:
        self.network = BlipForImageTextRetrieval.from_pretrained(
            DEMO_MATCH_MODEL, dtype=torch.float32
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(DEMO_MATCH_MODEL)
        self.images = BlipImageProcessorPil.from_pretrained(DEMO_MATCH_MODEL)

    @torch.inference_mode()
    def scores(self, picture: bytes, text: str) -> tuple[float, float]:
        image = self.images(Image.open(io.BytesIO(picture)), return_tensors="pt")
        words = self.tokenizer(text, return_tensors="pt")
        both = self.network(**image, **words, use_itm_head=True).itm_score
        cosine = self.network(**image, **words, use_itm_head=False).itm_score
        return float(both.softmax(-1)[0, 1]), float(cosine[0, 0])


def test_matches_equal_those_of_plain_transformers(user: Client, pictures: list[bytes]) -> None:
    jobs = [user.match(picture, TEXTS) for picture in pictures]
    retrieval = Retrieval()
    for picture, job in zip(pictures, jobs, strict=True):
        matches = job.result(60)
        assert [match.text for match in matches] == TEXTS
        for match in matches:
            expected = retrieval.scores(picture, match.text)
            assert (match.probability, match.cosine) == pytest.approx(expected, abs=1e-5)


def test_the_cosine_of_a_match_is_that_of_the_embeddings(
    user: Client, pictures: list[bytes]
) -> None:
    (match,) = user.match(pictures[0], TEXTS[0]).result(60)
    image, text = user.embed(pictures[0]), user.embed(text=TEXTS[0])
    pair = zip(image.result(60), text.result(60), strict=True)
    assert sum(a * b for a, b in pair) == pytest.approx(match.cosine, abs=1e-5)


def test_a_picture_matches_its_own_caption_best(user: Client) -> None:
    rng = Random(23)
    scenes = [random_scene(rng) for _ in range(8)]
    captions = list(dict.fromkeys(scene.caption() for scene in scenes))
    jobs = [user.match(draw(scene, 200, 200), captions) for scene in scenes]
    best = [max(job.result(60), key=lambda match: match.probability).text for job in jobs]
    right = sum(text == scene.caption() for text, scene in zip(best, scenes, strict=True))
    assert right >= 7


def test_a_dialogue_is_answered_as_by_plain_transformers(
    user: Client, pictures: list[bytes]
) -> None:
    history = [("how many shapes are there?", "two"), ("what is on top?", "a red star")]
    question = "what color is the background?"
    earlier = "".join(f"{turn} Answer: {reply}. Question: " for turn, reply in history)
    for picture in pictures[:4]:
        answer = user.chat(picture, question, history).result(60)
        assert answer == reference.answer(Image.open(io.BytesIO(picture)), earlier + question)


def test_a_dialogue_beyond_the_models_length_is_cut_and_answered(
    user: Client, pictures: list[bytes]
) -> None:
    history = [("how many shapes are there?", "two")] * 200
    assert user.chat(pictures[0], "what color is the background?", history).result(60)


def test_a_text_that_is_too_long_to_match_fails_by_name(
    user: Client, pictures: list[bytes]
) -> None:
    with pytest.raises(JobFailed, match="prompt_too_long"):
        user.match(pictures[0], ["a red circle", "circle " * 3000]).result(60)


def test_beams_through_the_queue_equal_plain_transformers(
    user: Client, pictures: list[bytes]
) -> None:
    jobs = [user.caption(picture, num_beams=4) for picture in pictures]
    for picture, job in zip(pictures, jobs, strict=True):
        expected = reference.caption(Image.open(io.BytesIO(picture)), num_beams=4)
        assert job.result(60) == expected


def test_groups_of_beams_return_texts_that_differ(user: Client, pictures: list[bytes]) -> None:
    groups: dict[str, Any] = {"num_beams": 4, "num_beam_groups": 4}
    job = user.caption(pictures[0], **groups, diversity_penalty=90.0, num_return_sequences=4)
    texts = [sequence.text for sequence in job.with_sequences().result(90)]
    assert len({text.split()[0] for text in texts}) > 1
    assert len(set(texts)) == 4
    with pytest.raises(JobFailed, match="needs a diversity_penalty above 0"):
        user.caption(pictures[0], **groups).result(60)


def test_a_text_is_streamed_and_answers_are_ranked(user: Client, pictures: list[bytes]) -> None:
    job = user.caption(pictures[0], stream=True, **LONG)
    parts = list(job.stream(timeout=90))
    assert sum(bool(part.text) for part in parts) > 1
    assert "".join(part.text for part in parts) == job.result(1)
    assert not any(part.restarts for part in parts)
    assert job.result(1) == user.caption(pictures[0], **LONG).result(90)
    answers = ["red", "blue", "a green star"]
    ranked = user.ask(pictures[0], "what color is it?", answers=answers).with_sequences().result(90)
    assert sorted(answer.text for answer in ranked) == sorted(answers)
    assert sum(answer.probability or 0 for answer in ranked) == pytest.approx(1, abs=1e-4)
    samples = user.caption(pictures[0], temperature=1.0, seed=3, num_return_sequences=3)
    texts = [text.text for text in samples.with_sequences().result(90)]
    seeded = [user.caption(pictures[0], temperature=1.0, seed=3 + n) for n in range(3)]
    assert texts == [each.result(90) for each in seeded]


def test_each_item_of_a_batch_has_its_own_options(user: Client, pictures: list[bytes]) -> None:
    lengths = [1, 3, 2]
    items: list[dict[str, Any]] = [
        {"image": pictures[0], "options": {"max_new_tokens": length}} for length in lengths
    ]
    items.append({"image": pictures[0], "options": {"output_scores": False}})
    batch = user.submit_batch(items, "caption", max_new_tokens=4, output_scores=True)
    results = list(batch.results(timeout=60))
    assert [len(result.sequences[0].tokens) for result in results[:3]] == lengths
    assert results[3].text_sequences is None
