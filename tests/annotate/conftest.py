"""A Redis whose messages a thread answers in place of a worker, and the command over it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from demo.stack import ROOT
from producer import contract
from producer.ledger.leases import Leases
from tests.annotate.sample_collections import write_image


@dataclass
class Responder:
    """A worker's place: it answers with the content of the image, and counts the questions."""

    #: Items answered so far, by the SHA-256 of their image.
    asked_of: dict[str, int] = field(default_factory=dict)
    #: Item and options to the text, or to None for an error.
    text_of: Callable[[Mapping[str, Any], Mapping[str, Any]], str | None] = lambda item, options: (
        f"picture {item['image'][5:13]}"
    )

    @property
    def answers(self) -> int:
        """Number of items answered so far."""
        return sum(self.asked_of.values())

    def results(self, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the results of a chunk."""
        return [self._result(item, payload["options"]) for item in payload["items"]]

    def _result(self, item: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        name = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
        if "error" in item:
            return {**name, "error": item["error"]}
        image = item["image"].removeprefix("blob:")
        self.asked_of[image] = self.asked_of.get(image, 0) + 1
        text = self.text_of(item, options)
        if text is None:
            return {**name, **contract.failure("image_invalid", "no image")}
        return {**name, "text": text}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path) -> None:
    """Make every command, also in a process of its own, use this Redis and start in tmp_path."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    """Write three images, one of them larger; return their texts."""
    sides = {"a.ppm": 8, "b.ppm": 16, "c.ppm": 8}
    return {
        name: write_image(tmp_path / "p" / name, number, side, side)
        for number, (name, side) in enumerate(sides.items())
    }


@pytest.fixture
def responder(redis_url: str, backend_of: Callable[[str], Any]) -> Iterator[Responder]:
    """Answer every message of the bulk queue in a thread."""
    responder, stopping, backend = Responder(), threading.Event(), backend_of(redis_url)

    def work() -> None:
        with redis.Redis.from_url(redis_url) as connection:
            leases = Leases(connection)
            while not stopping.is_set():
                message = connection.brpop(["bulk"], timeout=0.05)
                if message is None:
                    continue
                task_id = json.loads(message[1])["headers"]["id"]
                claim = leases.claim(task_id)
                if claim.payload is not None:
                    results = responder.results(claim.payload)
                    backend.store_result(task_id, results, "SUCCESS")

    thread = threading.Thread(target=work)
    thread.start()
    yield responder
    stopping.set()
    thread.join()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
