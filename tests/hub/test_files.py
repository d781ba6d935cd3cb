"""The files that the worker reads of a repository, and complete directories."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_hub import read_files
from tests.models.blip_checkpoints import save_caption
from tests.models.t5_checkpoints import save_instructblip
from worker.hub.files import seems_complete, select_files

TEXTS = ["config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt"]


@pytest.mark.parametrize(
    ("weights", "read"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (["model.safetensors", "model.safetensors.index.json"], ["model.safetensors"]),
        (
            ["model.fp16.safetensors", "model.bf16.safetensors", "adapter_model.bin"],
            ["model.bf16.safetensors"],
        ),
        (["model.fp16.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (
            ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
            ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
        ),
        (
            ["pytorch_model-00001-of-00001.fp16.bin", "pytorch_model.bin.index.fp16.json"],
            ["pytorch_model-00001-of-00001.fp16.bin", "pytorch_model.bin.index.fp16.json"],
        ),
        (
            ["model.safetensors", "model.fp16.safetensors", "model.safetensors.index.fp16.json"],
            ["model.safetensors"],
        ),
    ],
)
def test_one_form_of_the_weights_is_read(weights: list[str], read: list[str]) -> None:
    unread = ["README.md", "onnx/config.json", "model.onnx", "training_args.bin", "run.py"]
    assert select_files([*TEXTS, *weights, *unread]) == sorted([*TEXTS, *read])


def as_shards(path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (path / "model.safetensors").rename(path / shards[0])
    (path / shards[1]).write_bytes(b"second")
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def as_variant(path: Path) -> None:
    as_shards(path)
    index = "model.safetensors.index"
    (path / f"{index}.json").rename(path / f"{index}.fp16.json")
    text = (path / f"{index}.fp16.json").read_text()
    (path / f"{index}.fp16.json").write_text(text.replace(".safetensors", ".fp16.safetensors"))
    for shard in path.glob("model-*.safetensors"):
        shard.rename(shard.with_suffix(".fp16.safetensors"))


@pytest.mark.parametrize("save", [save_caption, save_instructblip])
@pytest.mark.parametrize(
    "change", [lambda path: None, as_shards, as_variant], ids=["one", "shards", "variant"]
)
def test_a_checkpoint_is_complete_until_any_necessary_file_is_missing(
    save: Callable[[Path], None], change: Callable[[Path], None], tmp_path: Path
) -> None:
    save(tmp_path / "saved")
    change(tmp_path / "saved")
    assert seems_complete(tmp_path / "saved")
    optional = {"generation_config.json", "special_tokens_map.json"}
    for name in read_files(tmp_path / "saved"):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "saved", copy)
        (copy / name).unlink()
        assert seems_complete(copy) == (name in optional), name
        shutil.rmtree(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_damaged_configuration_or_index_is_incomplete(text: str, tmp_path: Path) -> None:
    save_caption(tmp_path)
    as_shards(tmp_path)
    for name in ("config.json", "model.safetensors.index.json"):
        original = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        assert not seems_complete(tmp_path)
        (tmp_path / name).write_text(original)
