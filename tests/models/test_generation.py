"""Texts of tokens, and the longest answers, in every family that generates text."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.models.blip_checkpoints import save_caption, save_vqa
from tests.models.t5_checkpoints import save_blip2, save_instructblip
from worker.engine.request import Request
from worker.models.registry import load

SAVE: dict[str, Callable[[Path], None]] = {
    "t5": save_blip2,
    "instructblip": save_instructblip,
    "blip-caption": save_caption,
    "blip-vqa": save_vqa,
}
CLEAN, BPE = (
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
)
#: Settings of a tokenizer that decide about spaces before punctuation.
FLAGS: list[dict[str, bool]] = [{}, {CLEAN: False}, {CLEAN: True}, {CLEAN: True, BPE: True}]
#: Texts that the setting changes in every tokenizer of the tests.
SENTENCES = ["a red circle , above . how many ?", "a photo of an image . is it , if anything ?"]


@pytest.fixture(scope="module", params=["opt", *SAVE])
def path(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint of each family, for the test to change."""
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "opt":
        shutil.copytree(checkpoint, path, dirs_exist_ok=True)
    else:
        SAVE[request.param](path)
    return path


def texts(path: Path, flags: dict[str, bool]) -> list[str]:
    """Return the worker's texts for a tokenizer with these settings, checked by the tokenizer's."""
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings = {name: value for name, value in settings.items() if name not in (CLEAN, BPE)}
    (path / "tokenizer_config.json").write_text(json.dumps(settings | flags))
    model: Any = load(str(path), precision="fp32", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(path)
    generator = random.Random(8)
    rows = [tokenizer(sentence).input_ids for sentence in SENTENCES]
    rows += [[generator.randrange(len(tokenizer)) for _ in range(40)] for _ in range(20)]
    task = "vqa" if "vqa" in model.tasks else "caption"
    request = Request(0, task, "", None, "how many?" if task == "vqa" else "")
    prompt = model.prompt(request)
    got = [model.text(request, prompt, row) for row in rows]
    begin = prompt.start if model.tasks == {"caption"} else []
    decoded = [tokenizer.decode([*begin, *row], skip_special_tokens=True) for row in rows]
    assert got == [str(text).strip() for text in decoded]
    return got


def test_the_text_of_tokens_is_that_of_the_checkpoints_own_tokenizer(path: Path) -> None:
    by_flags = [texts(path, flags) for flags in FLAGS]
    # The settings matter: by default and if forced, texts differ
    assert by_flags[0] == by_flags[1] != by_flags[3]
