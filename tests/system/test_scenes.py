"""Freshly drawn scenes through the whole system, against the truth and against transformers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from random import Random

import pytest
from PIL import Image

from demo.scenes import random_picture, random_scene
from producer import Client
from tests.system import reference

SCENES = 200


@dataclass(frozen=True)
class Asked:
    """One row: what is asked about a picture, and what is true."""

    picture: Image.Image
    question: str | None
    truth: str

    @property
    def item(self) -> dict[str, object]:
        task = {"task": "caption"} if self.question is None else {"task": "vqa"}
        image = {"image": png(self.picture), **task}
        return image if self.question is None else {**image, "question": self.question}

    def by_transformers(self) -> str:
        if self.question is None:
            return reference.caption(self.picture)
        return reference.answer(self.picture, self.question)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def drawn(seed: int) -> list[Asked]:
    """A caption and a question about each of fresh scenes, in random order."""
    rng, rows = Random(seed), []
    for _ in range(SCENES):
        scene = random_scene(rng)
        picture = random_picture(rng, scene, most=640)
        question = rng.choice(scene.questions())
        rows.append(Asked(picture, None, scene.caption()))
        rows.append(Asked(picture, question.question, question.answer))
    rng.shuffle(rows)
    return rows


@pytest.mark.timeout(300)
def test_texts_are_right_and_equal_those_of_plain_transformers(user: Client) -> None:
    rows = drawn(seed=20)
    # Chunks of seven: rows of different tasks and lengths share them and the engine's steps.
    batch = user.submit_batch((row.item for row in rows), chunk_items=7)
    got = [result.text for result in batch.results(timeout=60)]

    assert got == [row.by_transformers() for row in rows]
    for kind in ("captions", "answers"):
        mine = [
            text == row.truth
            for row, text in zip(rows, got, strict=True)
            if (row.question is None) == (kind == "captions")
        ]
        assert sum(mine) / len(mine) >= 0.95, f"{kind}: {sum(mine)} of {len(mine)} right"


def test_interactive_jobs_say_the_same_as_a_batch(user: Client) -> None:
    rows = drawn(seed=21)[:24]
    batch = user.submit_batch(row.item for row in rows)
    jobs = [
        user.caption(row.picture) if row.question is None else user.ask(row.picture, row.question)
        for row in rows
    ]
    assert [job.result(timeout=60) for job in jobs] == [
        result.text for result in batch.results(timeout=60)
    ]


def test_a_conditional_caption_begins_with_its_prompt(user: Client) -> None:
    (row,) = [row for row in drawn(seed=22) if row.question is None][:1]
    text = user.caption(row.picture, prompt="a green").result(timeout=60)
    assert text.startswith("a green ")
    assert text == reference.caption(row.picture, "a green")


def test_seeded_sampling_is_the_same_alone_and_in_company(user: Client) -> None:
    picture = drawn(seed=23)[0].picture
    options = {"temperature": 3.0, "seed": 11, "max_new_tokens": 12}
    alone = user.caption(picture, **options).result(timeout=60)
    batch = user.submit_batch([png(picture)] * 9, **options)
    assert {result.text for result in batch.results(timeout=60)} == {alone}
