"""Checkpoints whose files have other names or forms: variants of weights, spiece.model alone."""

from __future__ import annotations

import io
import string
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

from tests.models.t5_checkpoints import SENTENCES, build_tokenizer, save_blip2
from worker.engine.request import Request
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_weights
from worker.models.registry import load

CPU = torch.device("cpu")
BLIP2 = Blip2ForConditionalGeneration


@pytest.mark.parametrize("shard_size", ["100MB", "100KB"], ids=["one", "shards"])
def test_half_precision_variants_are_read_as_weights_of_the_usual_name(
    checkpoint: Path, tmp_path: Path, shard_size: str
) -> None:
    half = BLIP2.from_pretrained(checkpoint, dtype=torch.float16)
    half.save_pretrained(tmp_path / "usual")
    half.save_pretrained(tmp_path / "variant", variant="fp16", max_shard_size=shard_size)
    names = {file.name for file in (tmp_path / "variant").glob("*.safetensors")}
    assert "model.fp16.safetensors" in names or len(names) > 1
    expected = read_weights(BLIP2, resolve(str(tmp_path / "usual")), "fp32", CPU).state_dict()
    read = read_weights(BLIP2, resolve(str(tmp_path / "variant")), "fp32", CPU).state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_a_tokenizer_that_has_only_a_sentencepiece_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_blip2(path)
    tokens, trained = len(build_tokenizer()), io.BytesIO()
    generator = Random(1)
    words = ["".join(generator.choices(string.ascii_lowercase, k=4)) for _ in range(600)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *words]),
        model_writer=trained,
        vocab_size=150,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (path / "tokenizer.json").unlink()
    (path / "spiece.model").write_bytes(trained.getvalue())
    reference: Any = AutoTokenizer.from_pretrained(path)
    assert len(reference) > tokens / 2
    model: Any = load(str(path), device="cpu")
    for text in ("a photo of a red circle", "how many shapes are there?"):
        ids = model.prompt(Request("1", "caption", "image", None, text)).source
        assert ids[model.decoder.queries :] == reference(text).input_ids
