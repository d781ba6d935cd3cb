"""The pictures of a chunk: each fetched once, and prepared once for each model that sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from producer import contract
from producer.contract import ErrorCode, Task
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, ModelInfo
from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.fetcher import Fetched, Fetcher
from worker.images.memory_budget import BUDGET_BYTES, MemoryBudget


class ImageRequest(NamedTuple):
    """An image, as a model is to see it."""

    reference: str
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels as the model takes them; None where the engine has the features already."""

    hash: str
    pixels: bytes | None


class ImageLoader:
    """Thread-safe; one for each consumer process."""

    def __init__(
        self,
        fetcher: Fetcher,
        engine: EngineClient,
        info: EngineInfo,
        max_pixels: int,
        draft: int = 0,
        room_bytes: int = BUDGET_BYTES,
    ) -> None:
        self._fetcher = fetcher
        self._engine = engine
        self._info = info
        # One room for all models: `room_bytes` are what decoding may take.
        room = MemoryBudget(room_bytes)
        self._decoders = {
            model: Decoder(model.image_size, model.resample, max_pixels, draft, room)
            for model in info.models
        }

    def model(self, task: Task) -> ModelInfo:
        """The model that does this task; raises Refused if none does."""
        model = self._info.model_for(task.short)
        if model is None:
            offered = ", ".join(self._info.tasks)
            about = f"this worker's models offer {offered}, not {task.short}"
            raise ItemRejected(ErrorCode.UNSUPPORTED_TASK, about)
        return model

    def get(
        self, wanted: Iterable[ImageRequest], deadline: float | None = None
    ) -> Iterator[tuple[ImageRequest, Pixels | ItemRejected]]:
        """Each with its picture, those first whose features the engine has already.

        URLs are fetched until the deadline, which is on the monotonic clock.
        """
        wanted = list(dict.fromkeys(wanted))
        held = self._held(wanted)
        missing: dict[str, list[ImageRequest]] = {}
        for one in wanted:
            if one in held:
                yield one, Pixels(contract.blob_hash(one.reference), None)
            else:
                missing.setdefault(one.reference, []).append(one)
        fetched = self._fetcher.fetch(list(missing), deadline)
        for sharers in missing.values():
            # Not kept in a variable: an image must be gone before the next is waited for.
            yield from self._prepare(sharers, next(fetched))

    def reload(self, wanted: ImageRequest, deadline: float | None = None) -> Pixels | ItemRejected:
        """With pixels, whatever the engine has."""
        fetched = self._fetcher.fetch([wanted.reference], deadline)
        return next(picture for _, picture in self._prepare([wanted], next(fetched)))

    def _held(self, wanted: Iterable[ImageRequest]) -> set[ImageRequest]:
        """Those whose features are at hand; only of blobs is the hash known without a look."""
        hashes: dict[ModelInfo, dict[str, ImageRequest]] = {}
        for one in wanted:
            if contract.is_blob(one.reference):
                hashes.setdefault(one.model, {})[contract.blob_hash(one.reference)] = one
        return {
            by_hash[digest]
            for model, by_hash in hashes.items()
            for digest in self._engine.held(by_hash, model.tasks[0])
        }

    def _prepare(
        self, sharers: list[ImageRequest], fetched: Fetched
    ) -> Iterator[tuple[ImageRequest, Pixels | ItemRejected]]:
        """One image for those who want it; models that see alike share its pixels."""
        decoded: dict[Decoder, Pixels | ItemRejected] = {}
        for one in sharers:
            decoder = self._decoders[one.model]
            if decoder not in decoded:
                decoded[decoder] = _decode(one.reference, fetched, decoder)
            yield one, decoded[decoder]


def _decode(reference: str, fetched: Fetched, decoder: Decoder) -> Pixels | ItemRejected:
    if isinstance(fetched, ItemRejected):
        return fetched
    try:
        pixels = decoder.decode(fetched)
    except ItemRejected as refusal:
        return refusal
    if contract.is_blob(reference):
        return Pixels(contract.blob_hash(reference), pixels)
    return Pixels(hashlib.sha256(fetched).hexdigest(), pixels)
