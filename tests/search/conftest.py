"""A collection of colored pictures, and a thread in place of a worker that sees colors."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from producer import Client, contract
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.search.index import SearchIndex
from tests.cli.shell import id_of

COLORS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
BOUND_S = 60.0

Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


@dataclass
class ColorWorker:
    """A worker whose vectors are mean colors, of images and of the colors that a text names."""

    connection: redis.Redis
    finish: Finish
    revision: str = "r1"
    #: Order of the channels: another order is another model.
    channels: tuple[int, ...] = (0, 1, 2)
    #: Embedded images and texts, probes aside.
    embedded: Counter[str] = field(default_factory=Counter)
    #: Pairs of text and image that were matched.
    matched: int = 0
    #: Cleared: messages of batches stay queued.
    takes_batches: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.takes_batches.set()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        """Answer no further message."""
        self.stopping.set()
        self._thread.join()

    def _work(self) -> None:
        """Answer messages until the end of the test."""
        leases = Leases(self.connection)
        while not self.stopping.is_set():
            queues = ["interactive", *(["bulk"] if self.takes_batches.is_set() else [])]
            message = self.connection.brpop(queues, timeout=0.02)
            if message is None:
                continue
            claim = leases.claim(id_of(message[1]))
            if claim.payload is None:
                continue
            is_batch = message[0] == b"bulk"
            task = claim.payload["task"]
            results = [self._result(task, item, is_batch) for item in claim.payload["items"]]
            self.finish(id_of(message[1]), results)

    def _result(self, task: str, item: Mapping[str, Any], is_batch: bool) -> dict[str, Any]:
        custom_id = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
        if "error" in item:
            return custom_id | {"error": item["error"]}
        try:
            return custom_id | self._output(task, item, is_batch)
        except (OSError, KeyError) as error:
            return {**custom_id, **contract.failure("image_invalid", str(error))}

    def _output(self, task: str, item: Mapping[str, Any], is_batch: bool) -> dict[str, Any]:
        if task == "match":
            self.matched += len(item["texts"])
            color = self._color_of_image(item["image"])
            matches = [
                # The opposite order of the cosines.
                {"text": text, "probability": round(1 - color[0] / 256, 4), "cosine": 0.0}
                for text in item["texts"]
            ]
            return {"text": item["texts"][0], "matches": matches}
        text = item.get("text")
        color = self._color_of_image(item["image"]) if text is None else color_of_text(text)
        if is_batch:
            self.embedded[text or "image"] += 1
        length = sum(value**2 for value in color) ** 0.5
        vector = [color[channel] / length for channel in self.channels]
        return {"embedding": vector} | ({"revision": self.revision} if self.revision else {})

    def _color_of_image(self, reference: str) -> Sequence[float]:
        if not reference.startswith("blob:"):
            return COLORS[reference.rpartition("/")[2].partition(".")[0]]
        data = self.connection.get(Keys().blob(reference.removeprefix("blob:")))
        assert isinstance(data, bytes)
        pixel = Image.open(BytesIO(data)).convert("RGB").resize((1, 1)).getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return pixel


def color_of_text(text: str) -> Sequence[float]:
    """Return the mean of the colors that a text names; white without any."""
    named = [color for name, color in COLORS.items() if name in text] or [(255, 255, 255)]
    return [sum(values) / len(named) for values in zip(*named, strict=True)]


@pytest.fixture
def worker(connection: redis.Redis, finish: Finish) -> Iterator[ColorWorker]:
    """A running worker."""
    worker = ColorWorker(connection, finish)
    yield worker
    worker.stop()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a picture of each color, and a blue one in a subfolder."""
    folder = tmp_path / "photos"
    for name, color in COLORS.items():
        paint(folder / f"{name}.png", color)
    paint(folder / "sea" / "deep blue.png", (20, 20, 120))
    return folder


@pytest.fixture
def index(client: Client, worker: ColorWorker, tmp_path: Path) -> SearchIndex:
    """A handle on an index that does not exist yet, with a worker."""
    return client.index(tmp_path / "photos.index")


def paint(path: Path, color: tuple[int, ...]) -> Path:
    """Write a picture of one color."""
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (8, 8), color).save(path)
    return path
