"""The captioner of the demo: its captions and the answers of its dialogues."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from demo.dialogues import dialogue
from demo.evaluate import LATER_ANSWERS, Captioner, held_out, measure
from demo.scenes import Scene, Shape, draw
from worker.engine.model import as_generator
from worker.engine.request import Request
from worker.models.registry import load

MODEL = Path(__file__).parents[2] / "demo" / "model"
SCENES = 8


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> None:
    """Use a single thread: with small matrices on a busy machine, a second only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def right() -> dict[str, list[bool]]:
    with torch.inference_mode():
        return measure(Captioner(MODEL), held_out(SCENES, seed=2))


def test_captions_are_right_to_the_letter(right: dict[str, list[bool]]) -> None:
    captions = [*right["caption, one shape"], *right["caption, two shapes"]]
    assert sum(captions) / SCENES >= 0.95


@pytest.mark.parametrize("ordinal", LATER_ANSWERS)
def test_later_answers_of_a_dialogue_are_right(right: dict[str, list[bool]], ordinal: str) -> None:
    assert sum(right[f"{ordinal} answer of a dialogue"]) / SCENES >= 0.95


def test_the_engine_gives_a_dialogue_the_prompt_of_the_training() -> None:
    # Given an orange star above a blue square, and two questions about them with their answers
    star, square = (
        Shape("star", "orange", 0.5, 0.25, 0.2),
        Shape("square", "blue", 0.5, 0.75, 0.2),
    )
    picture = draw(Scene("grey", (star, square)), 64, 64)
    turns = (("what is on top?", "an orange star"), ("how many shapes are there?", "two"))
    served = as_generator(load(str(MODEL), "fp32", "cpu"))
    assert served is not None
    # When the engine lays out a third question
    question = "is there an orange square?"
    request = Request(0, "chat", "picture", picture.tobytes(), question, history=turns)
    prompt = served.prompt(request)
    # Then its tokens are those of the training
    captioner = Captioner(MODEL)
    text = dialogue(turns, question)
    inputs = captioner.processor(images=picture, text=text, return_tensors="pt")
    assert prompt.start == inputs["input_ids"][0].tolist()
