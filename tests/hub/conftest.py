"""Fixtures of the hub's tests: a hub on loopback, and an empty cache for this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from config.settings import DEMO_MODEL
from tests.fake_hub import FakeHub, read_files, running_hub
from worker.hub import download

NAME = "owner/demo"
#: Files of other frameworks and of other programs, which the worker never reads.
UNREAD = dict.fromkeys(
    (
        *("README.md", ".gitattributes", "tf_model.h5", "flax_model.msgpack", "pytorch_model.bin"),
        *("model.fp16.safetensors", "onnx/model.onnx", "onnx/config.json", "training_args.bin"),
    ),
    b"not read",
)


@pytest.fixture(scope="session")
def demo_files() -> dict[str, bytes]:
    """The files of a published checkpoint, small weights in place of its own."""
    return read_files(DEMO_MODEL) | UNREAD | {"model.safetensors": bytes(range(256)) * 400}


@pytest.fixture
def hub(
    demo_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """A hub with one model, which this process uses with an empty cache."""
    with running_hub() as hub:
        hub.repository(NAME).push(demo_files)
        use_hub(hub.address, tmp_path / "cache", monkeypatch)
        yield hub


def use_hub(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process use a hub and a cache; a short timeout."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(download, "REQUEST_TIMEOUT_S", 0.3)
