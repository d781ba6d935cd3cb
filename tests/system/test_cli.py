"""The command line against a running worker with the demo model."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Protocol

import pytest

from demo.stack import ROOT
from demo.tour import IMAGES, pictures
from producer.cli.app import run


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


def blipline(*arguments: str, stdin: str = "") -> CompletedProcess[str]:
    """Run the command here, or, with an input, in a process of its own, as a shell does."""
    if stdin:
        command = [sys.executable, "-m", "producer.cli", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    output, errors = (TextIOWrapper(BytesIO(), write_through=True) for _ in range(2))
    with redirect_stdout(output), redirect_stderr(errors):
        code = run(arguments)
    texts = [stream.detach().getvalue().decode() for stream in (output, errors)]
    return CompletedProcess(arguments, code, *texts)


def test_a_single_image_is_captioned() -> None:
    # The largest image, which is the easiest for the demo model.
    image = IMAGES / "scene-18.jpg"
    process = blipline("caption", str(image))
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == TRUTH[image.name]["caption"] + "\n"


def test_the_answer_to_a_question_does_not_repeat_it() -> None:
    image = IMAGES / "scene-18.jpg"
    question = "what color is the background?"
    process = blipline("ask", str(image), question)
    answers = {pair["question"]: pair["answer"] for pair in TRUTH[image.name]["questions"]}
    assert (process.returncode, process.stdout) == (0, answers[question] + "\n")


def test_a_caption_begins_with_its_prompt() -> None:
    process = blipline("caption", str(pictures()[0]), "--prompt", "a", "--json")
    (line,) = map(json.loads, process.stdout.splitlines())
    assert line["text"].startswith("a ")


def test_every_sample_format_is_captioned_and_an_invalid_file_fails_alone() -> None:
    Path("broken.jpg").write_bytes(b"not an image")
    images = [str(path) for path in pictures()]
    process = blipline("caption", *images, "broken.jpg")
    assert process.returncode == 1
    assert [line.partition("\t")[0] for line in process.stdout.splitlines()] == images
    assert "broken.jpg: " in process.stderr
    assert "(image_invalid)" in process.stderr


def test_a_pipe_with_valid_and_invalid_lines_has_a_result_for_each_in_order() -> None:
    image = str(pictures()[-1])
    lines = [
        json.dumps({"custom_id": "caption", "image": image}),
        "not JSON",
        json.dumps({"image": image, "task": "vqa", "question": "how many shapes are there?"}),
        json.dumps({"custom_id": "missing", "image": "missing.jpg"}),
        json.dumps({"custom_id": "wrong", "image": image, "colour": "red"}),
    ]
    process = blipline("batch", "submit", "-", "--wait", "-o", "out.jsonl", stdin="\n".join(lines))
    assert process.returncode == 1
    assert "3 of 5 items failed" in process.stderr
    results = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    names = [line.get("custom_id") for line in results]
    assert names == ["caption", None, None, "missing", "wrong"]
    assert [line["status"] for line in results] == ["ok", "error", "ok", "error", "error"]
    assert results[1]["error"]["message"].startswith("line 2: not JSON")
    assert "colour" in results[4]["error"]["message"]


def test_the_correct_caption_is_the_likeliest() -> None:
    for image in (IMAGES / "scene-18.jpg", IMAGES / "scene-03.webp"):
        caption = TRUTH[image.name]["caption"]
        _, color, rest = caption.split(" ", 2)
        colors = {"green", "yellow", "black"} - {color}
        wrong = [f"a {wrong_color} {rest}" for wrong_color in sorted(colors)]
        process = blipline("match", str(image), *wrong, caption)
        assert (process.returncode, process.stderr) == (0, "")
        lines = [line.split("\t") for line in process.stdout.splitlines()]
        assert lines[0][2] == caption
        assert float(lines[0][0]) > 0.9 > 0.1 > float(lines[1][0])


def test_embeddings_are_unit_vectors_of_one_space() -> None:
    image = IMAGES / "scene-18.jpg"
    process = blipline("embed", str(image), "--json")
    (line,) = map(json.loads, process.stdout.splitlines())
    assert (line["image"], line["status"]) == (str(image), "ok")
    right, wrong = TRUTH[image.name]["caption"], TRUTH["scene-08.jpg"]["caption"]
    process = blipline("embed", "--text", right, "--text", wrong)
    vectors = [line["embedding"], *map(json.loads, process.stdout.splitlines())]
    assert all(abs(dot(vector, vector) - 1) < 1e-3 for vector in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_a_dialogue_through_a_pipe_has_an_answer_for_each_question() -> None:
    questions = ["what color is the background?", "how many shapes are there?"]
    process = blipline("chat", str(IMAGES / "scene-18.jpg"), stdin="\n".join(questions))
    # The demo model was not trained on dialogues: only its first answer is reliable.
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert (len(lines), lines[0]) == (2, "pink")


def test_beam_search_is_an_option() -> None:
    image = IMAGES / "scene-18.jpg"
    process = blipline("caption", str(image), "--num-beams", "3", "--early-stopping")
    assert (process.returncode, process.stdout) == (0, TRUTH[image.name]["caption"] + "\n")
    sampling = ("--temperature", "0.5", "--seed", "3")
    sampled = [blipline("caption", str(image), "--num-beams", "3", *sampling) for _ in range(2)]
    assert [process.returncode for process in sampled] == [0, 0]
    assert sampled[0].stdout == sampled[1].stdout


def test_another_process_can_read_the_results_of_a_batch() -> None:
    image = json.dumps({"image": str(pictures()[0])})
    submitted = blipline("batch", "submit", "-", stdin=image + "\n")
    batch_id = submitted.stdout.strip()
    results = blipline("batch", "results", batch_id, "--timeout", "30")
    assert (results.returncode, results.stdout.count("\n")) == (0, 1)
    status = blipline("batch", "status", batch_id)
    assert status.stdout == "done: 1 of 1 done, 0 failed\n"
