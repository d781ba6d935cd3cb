"""A worker with a model in the grouped lane: caption, question and dialogue through Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo.stack import running_redis, running_worker
from producer import Client, JobFailed
from tests.models.image_text_checkpoints import save_llava
from worker.models.image_text.prompts import INSTRUCTION

TOKENS = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava")
    save_llava(path)
    return path


@pytest.fixture(scope="module")
def client(checkpoint: Path) -> Iterator[Client]:
    settings = {"BLIPLINE_MODEL": str(checkpoint), "BLIPLINE_DEVICE": "cpu"}
    with running_redis() as url, running_worker(url, settings), Client(url) as client:
        yield client


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture that is no square."""
    image = Image.new("RGB", (150, 70), (30, 160, 90))
    image.paste((240, 30, 30), (20, 20, 90, 60))
    image.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def expected(checkpoint: Path, picture: Path, text: str) -> str:
    """Return transformers' answer to one turn."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    network: Any = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
    content = [{"type": "image", "image": Image.open(picture)}, {"type": "text", "text": text}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    row = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0]
    new = row[inputs["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(new, skip_special_tokens=True)).strip()


def test_a_worker_answers_as_transformers_does(
    client: Client, checkpoint: Path, picture: Path
) -> None:
    items: list[Any] = [
        {"image": picture},
        {"image": picture, "task": "vqa", "question": "what is it?"},
        {"image": picture, "task": "caption", "prompt": "Name the colours."},
    ]
    results = list(client.submit_batch(items, max_new_tokens=TOKENS).results(120))
    texts = [INSTRUCTION, "what is it?", "Name the colours."]
    assert [result.text for result in results] == [
        expected(checkpoint, picture, text) for text in texts
    ]


def test_a_dialogue_and_single_jobs_are_answered(client: Client, picture: Path) -> None:
    turns = [("what is it?", "a box")]
    jobs = [
        client.chat(picture, "and now?", history=turns, max_new_tokens=4),
        client.ask(picture, "what?", num_beams=2, max_new_tokens=4),
    ]
    assert all(isinstance(job.result(60), str) for job in jobs)


def test_a_task_that_the_model_does_not_offer_is_named(client: Client, picture: Path) -> None:
    with pytest.raises(JobFailed, match="offer caption, chat, vqa, not match"):
        client.match(picture, ["a box"]).result(60)
