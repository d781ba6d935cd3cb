"""The command line against a running worker with the demo model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any, Protocol

import pytest

from demo.stack import ROOT
from demo.tour import IMAGES, pictures


class Stack(Protocol):
    """A running Redis and worker."""

    redis_url: str


@pytest.fixture
def environment(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", stack.redis_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


pytestmark = pytest.mark.usefixtures("environment")

TRUTH: dict[str, Any] = json.loads((IMAGES / "truth.json").read_text())


def blipline(*arguments: str, given: str = "") -> CompletedProcess[str]:
    """The command in a process of its own, as a shell runs it."""
    command = [sys.executable, "-m", "producer.cli", *arguments]
    return run(command, input=given, capture_output=True, text=True, timeout=60)


def test_one_picture_is_captioned_as_it_is() -> None:
    # The largest picture: the plainest to see.
    image = IMAGES / "scene-18.jpg"
    ended = blipline("caption", str(image))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == TRUTH[image.name]["caption"] + "\n"


def test_a_question_is_answered_without_being_repeated() -> None:
    image = IMAGES / "scene-18.jpg"
    question = "what color is the background?"
    ended = blipline("ask", str(image), question)
    answers = {pair["question"]: pair["answer"] for pair in TRUTH[image.name]["questions"]}
    assert (ended.returncode, ended.stdout) == (0, answers[question] + "\n")


def test_a_prompt_begins_the_caption() -> None:
    ended = blipline("caption", str(pictures()[0]), "--prompt", "a", "--json")
    (line,) = map(json.loads, ended.stdout.splitlines())
    assert line["text"].startswith("a ")


def test_every_format_of_the_samples_is_captioned_and_a_bad_file_fails_alone() -> None:
    Path("broken.jpg").write_bytes(b"no picture")
    images = [str(path) for path in pictures()]
    ended = blipline("caption", *images, "broken.jpg")
    assert ended.returncode == 1
    assert [line.partition("\t")[0] for line in ended.stdout.splitlines()] == images
    assert "broken.jpg: " in ended.stderr
    assert "(image_invalid)" in ended.stderr


def test_a_mixed_file_through_a_pipe_has_a_result_for_each_line_in_order() -> None:
    image = str(pictures()[-1])
    lines = [
        json.dumps({"custom_id": "caption", "image": image}),
        "not JSON",
        json.dumps({"image": image, "task": "vqa", "question": "how many shapes are there?"}),
        json.dumps({"custom_id": "missing", "image": "missing.jpg"}),
        json.dumps({"custom_id": "wrong", "image": image, "colour": "red"}),
    ]
    ended = blipline("batch", "submit", "-", "--wait", "-o", "out.jsonl", given="\n".join(lines))
    assert ended.returncode == 1
    assert "3 of 5 items failed" in ended.stderr
    results = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["custom_id"] for line in results] == ["caption", "2", "3", "missing", "wrong"]
    assert [line["status"] for line in results] == ["ok", "error", "ok", "error", "error"]
    assert results[1]["error"]["message"].startswith("line 2: not JSON")
    assert "colour" in results[4]["error"]["message"]


def test_the_true_caption_is_the_likeliest() -> None:
    for image in (IMAGES / "scene-18.jpg", IMAGES / "scene-03.webp"):
        caption = TRUTH[image.name]["caption"]
        _, color, rest = caption.split(" ", 2)
        others = [f"a {other} {rest}" for other in ("green", "yellow", "black") if other != color]
        ended = blipline("match", str(image), *others, caption)
        assert (ended.returncode, ended.stderr) == (0, "")
        lines = [line.split("\t") for line in ended.stdout.splitlines()]
        assert lines[0][2] == caption
        assert float(lines[0][0]) > 0.9 > 0.1 > float(lines[1][0])


def test_embeddings_are_unit_vectors_of_one_space() -> None:
    image = IMAGES / "scene-18.jpg"
    ended = blipline("embed", str(image), "--json")
    (line,) = map(json.loads, ended.stdout.splitlines())
    assert (line["image"], line["status"]) == (str(image), "ok")
    right, wrong = TRUTH[image.name]["caption"], TRUTH["scene-08.jpg"]["caption"]
    ended = blipline("embed", "--text", right, "--text", wrong)
    vectors = [line["embedding"], *map(json.loads, ended.stdout.splitlines())]
    assert all(abs(dot(vector, vector) - 1) < 1e-3 for vector in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])


def dot(one: list[float], another: list[float]) -> float:
    return sum(a * b for a, b in zip(one, another, strict=True))


def test_a_dialogue_through_a_pipe_has_an_answer_for_each_question() -> None:
    questions = ["what color is the background?", "how many shapes are there?"]
    ended = blipline("chat", str(IMAGES / "scene-18.jpg"), given="\n".join(questions))
    # The demo model has never seen a dialogue: only its first answer is sure to be right.
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert (len(lines), lines[0]) == (2, "pink")


def test_beams_are_searched_on_demand() -> None:
    image = IMAGES / "scene-18.jpg"
    ended = blipline("caption", str(image), "--num-beams", "3", "--early-stopping")
    assert (ended.returncode, ended.stdout) == (0, TRUTH[image.name]["caption"] + "\n")
    ended = blipline("caption", str(image), "--num-beams", "3", "--temperature", "1")
    assert ended.returncode == 1
    assert "leave out num_beams or temperature" in ended.stderr


def test_what_one_process_submits_another_collects() -> None:
    image = json.dumps({"image": str(pictures()[0])})
    submitted = blipline("batch", "submit", "-", given=image + "\n")
    batch_id = submitted.stdout.strip()
    results = blipline("batch", "results", batch_id, "--timeout", "30")
    assert (results.returncode, results.stdout.count("\n")) == (0, 1)
    status = blipline("batch", "status", batch_id)
    assert status.stdout == "done: 1 of 1 done, 0 failed\n"
