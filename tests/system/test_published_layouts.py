"""An engine with each layout of published checkpoints answers as transformers does.

The reference is independent of the worker: the checkpoint's processor and `generate`, or its
forward pass for scores, on the same directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from demo.stack import running_engine
from tests.models import blip_checkpoints, retrieval_checkpoints, t5_checkpoints, test_retrieval
from tests.models.image_text_checkpoints import CHECKPOINTS
from tests.models.llama_checkpoints import save_instructblip_llama
from tests.models.test_image_text import Kind, reference_processor
from tests.models.traffic import sample_of
from tests.opt_checkpoint import QUERIES, one_thread, quiet_transformers, save_opt
from tests.system.engines import decode_pixels, load_engine
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path
from worker.engine.request import Answer, GenerationOptions, Request
from worker.engine.selfcheck import run

__all__ = ["one_thread", "quiet_transformers"]

TOKENS = 6
SETTINGS = {
    "BLIPLINE_MATCH_MODEL": "none",
    "BLIPLINE_DEVICE": "cpu",
    "BLIPLINE_PRECISION": "fp32",
    "BLIPLINE_CPU_THREADS": "1",
}


class Row(NamedTuple):
    """A task and its text."""

    task: str
    text: str = ""


#: Texts, or pairs of P(match) and cosine, of the rows about an image.
Expect = Callable[[Path, Image.Image, Sequence[Row]], Sequence[Any]]

#: Answers of an engine with a checkpoint to rows about an image.
Ask = Callable[[Path, Image.Image, Sequence[Row]], list[Answer]]

CAPTION, QUESTION = Row("caption"), Row("vqa", "how many?")
MATCHES = [Row("match", "a red circle"), Row("match", "star")]


class Layout(NamedTuple):
    """A kind of checkpoint: how it is saved, rows for it, and their reference."""

    save: Callable[[Path], None]
    rows: Sequence[Row]
    expect: Expect


def expect_blip(
    network_class: Any, path: Path, image: Image.Image, rows: Sequence[Row]
) -> list[str]:
    reference = blip_checkpoints.Reference(network_class, path)
    return [reference.answer(image, row.text, {"max_new_tokens": TOKENS})[0] for row in rows]


def expect_blip2(path: Path, image: Image.Image, rows: Sequence[Row]) -> list[str]:
    processor = Blip2Processor(
        BlipImageProcessorPil.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
        num_query_tokens=QUERIES,
    )
    network = Blip2ForConditionalGeneration.from_pretrained(path).eval()
    texts = [f"Question: {row.text} Answer:" if row.text else "" for row in rows]
    return [generate(network, processor, image, text) for text in texts]


def expect_instructblip(path: Path, image: Image.Image, rows: Sequence[Row]) -> list[str]:
    processor = InstructBlipProcessor(
        BlipImageProcessorPil.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
        AutoTokenizer.from_pretrained(path, subfolder="qformer_tokenizer"),
        num_query_tokens=t5_checkpoints.QUERIES,
    )
    network = InstructBlipForConditionalGeneration.from_pretrained(path).eval()
    texts = [row.text or "A short image caption." for row in rows]
    return [generate(network, processor, image, text) for text in texts]


def generate(network: Any, processor: Any, image: Image.Image, text: str) -> str:
    inputs = processor(images=image, text=text, return_tensors="pt")
    row = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0]
    begin = 1 if network.config.text_config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return str(processor.tokenizer.decode(row[begin:], skip_special_tokens=True)).strip()


def expect_scores(
    family: str, path: Path, image: Image.Image, rows: Sequence[Row]
) -> list[tuple[float, float]]:
    reference = test_retrieval.Reference(path, family)
    return [reference.pair(image, row.text)[:2] for row in rows]


def expect_image_text(name: str, path: Path, image: Image.Image, rows: Sequence[Row]) -> list[str]:
    network: Any = AutoModelForImageTextToText.from_pretrained(path).eval()
    kind = Kind(name, SimpleNamespace(), network, reference_processor(name, path))
    return [kind.answers(image, *row, (), {"max_new_tokens": TOKENS})[0] for row in rows]


LAYOUTS = {
    "blip-caption": Layout(
        blip_checkpoints.save_caption, [CAPTION], partial(expect_blip, BlipForConditionalGeneration)
    ),
    "blip-vqa": Layout(
        blip_checkpoints.save_vqa, [QUESTION], partial(expect_blip, BlipForQuestionAnswering)
    ),
    "blip-retrieval": Layout(
        retrieval_checkpoints.save_blip, MATCHES, partial(expect_scores, "blip")
    ),
    "blip2-retrieval": Layout(
        retrieval_checkpoints.save_blip2, MATCHES, partial(expect_scores, "blip2")
    ),
    "blip2-opt": Layout(save_opt, [CAPTION, QUESTION], expect_blip2),
    "blip2-flan-t5": Layout(t5_checkpoints.save_blip2, [QUESTION], expect_blip2),
    "instructblip-flan-t5": Layout(
        t5_checkpoints.save_instructblip, [CAPTION, QUESTION], expect_instructblip
    ),
    "instructblip-vicuna": Layout(
        save_instructblip_llama, [CAPTION, QUESTION], expect_instructblip
    ),
    **{
        name: Layout(CHECKPOINTS[name], rows, partial(expect_image_text, name))
        for name, rows in {
            "vision-encoder-decoder": [CAPTION],
            "git": [CAPTION, QUESTION],
            "florence2": [CAPTION],
            "llava": [CAPTION, QUESTION],
        }.items()
    },
}


#: A layout of each kind; tests/models compares the others without an engine.
SAMPLE = sample_of(
    LAYOUTS,
    *("blip-caption", "blip2-retrieval", "blip2-opt", "instructblip-flan-t5"),
    *("vision-encoder-decoder", "llava"),
)


def draw_picture() -> Image.Image:
    """Draw a picture that is no square."""
    picture = Image.new("RGB", (90, 40), (40, 90, 190))
    picture.paste((250, 30, 10), (22, 10, 45, 40))
    return picture


def ask_engine(path: Path, image: Image.Image, rows: Sequence[Row]) -> list[Answer]:
    """Load an engine with a checkpoint in this process and return its answers."""
    engine, info = load_engine(str(path), "none")
    pixels = decode_pixels(info, image)
    return run(engine, [build_request(pixels, *pair) for pair in zip(rows, count(), strict=False)])


def ask_process(path: Path, image: Image.Image, rows: Sequence[Row]) -> list[Answer]:
    """Start an engine with a checkpoint and return its answers."""
    settings = {**SETTINGS, "BLIPLINE_MODEL": str(path)}
    with running_engine(settings, "--directory", str(path)) as engine:
        client = EngineClient(socket_path(engine.run_dir), wait_s=60)
        client.start()
        (model,) = client.info(timeout_s=60).models
        pixels = decode_pixels(model, image)
        futures = [client.submit(partial(build_request, pixels, row)) for row in rows]
        answers = [future.result(60) for future in futures]
        client.close()
    return answers


def build_request(pixels: bytes, row: Row, number: int) -> Request:
    if row.task == "match":
        return Request(number, "match", "picture", pixels, texts=(row.text,))
    options = GenerationOptions(max_new_tokens=TOKENS)
    return Request(number, row.task, "picture", pixels, row.text, options)


def check_answers(name: str, path: Path, ask: Ask) -> None:
    """Compare the answers to the rows of a layout with those of transformers."""
    layout, picture = LAYOUTS[name], draw_picture()
    layout.save(path)
    answers = ask(path, picture, layout.rows)
    assert [answer.error_message for answer in answers] == [""] * len(layout.rows)
    expected = layout.expect(path, picture, layout.rows)
    for answer, reference in zip(answers, expected, strict=True):
        if answer.scores:
            assert answer.scores[0] == pytest.approx(reference, abs=1e-5)
        else:
            assert answer.text == reference
            assert answer.tokens > 0


@pytest.mark.parametrize("name", SAMPLE)
def test_an_engine_with_a_published_layout_answers_as_transformers(
    name: str, tmp_path: Path
) -> None:
    check_answers(name, tmp_path, ask_engine)


@pytest.mark.exhaustive  # test_image_text.py runs the sample: a worker with `llava`
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_process_of_an_engine_answers_as_transformers(name: str, tmp_path: Path) -> None:
    check_answers(name, tmp_path, ask_process)
