"""The image loader, which fetches each image of a chunk once and decodes it once per model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from producer import contract
from producer.contract import ErrorCode, Task
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, ModelInfo
from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.fetcher import Fetcher, FetchResult
from worker.images.memory_budget import BUDGET_BYTES, MemoryBudget
from worker.images.truncation import accept_truncated_images
from worker.software import software


class ImageRequest(NamedTuple):
    """An image reference, and the model that receives its pixels."""

    reference: str
    model: ModelInfo
    #: Revision of the adapter, if it changes the features of the image; else empty.
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of an image as a model receives them; None if the engine has its features."""

    #: Key of the pixels, and so of features and answers: image, decoder and their software, and the
    #: adapter if it changes the features.
    hash: str
    pixels: bytes | None


class ImageLoader:
    """The image loader of a consumer process; thread-safe."""

    def __init__(
        self,
        fetcher: Fetcher,
        engine: EngineClient,
        info: EngineInfo,
        max_pixels: int,
        draft: int = 0,
        budget_bytes: int = BUDGET_BYTES,
        accepts_truncated: bool = False,
        on_decoded: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        #: Called with the seconds that each decoding took.
        self._on_decoded = on_decoded
        self._fetcher = fetcher
        self._engine = engine
        self._info = info
        # All models share one budget: `budget_bytes` is the memory of all decoding.
        budget = MemoryBudget(budget_bytes)
        if accepts_truncated:
            accept_truncated_images()
        self._decoders = {
            model: Decoder(
                model.image_size,
                model.resample,
                max_pixels,
                draft,
                accepts_truncated,
                budget,
                model.frame,
                model.keeps_proportions,
                model.image_backend,
            )
            for model in info.models
        }

    def model(self, task: Task, user: Task | None = None) -> ModelInfo:
        """Return the model for a task, which is a part of `user` if it is given.

        Raises ItemRejected if there is none.
        """
        # A description consists of captions.
        name = Task.CAPTION.short if task is Task.DESCRIBE else task.short
        model = self._info.model_for(name)
        if model is None:
            offered = ", ".join(self._info.tasks)
            part = "" if user is None else f", which {user.short} needs"
            message = f"this worker's models offer {offered}, not {task.short}{part}"
            raise ItemRejected(ErrorCode.UNSUPPORTED_TASK, message)
        return model

    def matcher(self) -> ModelInfo | None:
        """Return the model that matches texts with images, or None."""
        return self._info.model_for(Task.MATCH.short)

    def known_hash(self, request: ImageRequest) -> str | None:
        """Return the key of an image's pixels: "" without an image, None before its fetch."""
        if not request.reference:
            return ""
        if not contract.is_blob(request.reference):
            return None
        return self._pixels_hash(contract.blob_hash(request.reference), request)

    def _pixels_hash(self, image_hash: str, request: ImageRequest) -> str:
        """Hash an image's content with everything that determines the features of a model.

        Consumers with other settings or versions share the engine's feature cache, and Redis.
        """
        settings = self._decoders[request.model].settings
        identity = [image_hash, settings, self._fetcher.max_bytes, software()]
        identity += [request.adapter] if request.adapter else []
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def get(
        self, requests: Iterable[ImageRequest], deadline: float | None = None
    ) -> Iterator[tuple[ImageRequest, Pixels | ItemRejected]]:
        """Yield each request with its pixels, beginning with images in the engine's feature cache.

        Remote images are fetched until the deadline, which is on the monotonic clock.
        """
        requests = list(dict.fromkeys(requests))
        cached = self._cached(requests)
        missing: dict[str, list[ImageRequest]] = {}
        for request in requests:
            if request in cached:
                yield request, Pixels(self.known_hash(request) or "", None)
            else:
                missing.setdefault(request.reference, []).append(request)
        results = self._fetcher.fetch(list(missing), deadline)
        for sharers in missing.values():
            # Not assigned to a variable: an image must be freed before the wait for the next.
            yield from self._prepare(sharers, next(results))

    def reload(self, request: ImageRequest, deadline: float | None = None) -> Pixels | ItemRejected:
        """Fetch and decode an image even if the engine has its features."""
        results = self._fetcher.fetch([request.reference], deadline)
        return next(pixels for _, pixels in self._prepare([request], next(results)))

    def _cached(self, requests: Iterable[ImageRequest]) -> set[ImageRequest]:
        """Return the requests in the feature cache; a fetch is needed to hash other than blobs."""
        hashes: dict[ModelInfo, dict[str, ImageRequest]] = {}
        for request in requests:
            digest = self.known_hash(request)
            if digest:
                hashes.setdefault(request.model, {})[digest] = request
        return {
            by_hash[digest]
            for model, by_hash in hashes.items()
            for digest in self._engine.cached_features(by_hash, model.tasks[0])
        }

    def _prepare(
        self, sharers: list[ImageRequest], result: FetchResult
    ) -> Iterator[tuple[ImageRequest, Pixels | ItemRejected]]:
        """Decode an image for all of its requests, once for all models with equal decoders."""
        decoded: dict[Decoder, bytes | ItemRejected] = {}
        for request in sharers:
            decoder = self._decoders[request.model]
            if decoder not in decoded:
                decoded[decoder] = self._decode(decoder, result)
            pixels = decoded[decoder]
            if isinstance(pixels, ItemRejected):
                yield request, pixels
            else:
                yield request, Pixels(self._hash(request, result), pixels)

    def _hash(self, request: ImageRequest, result: FetchResult) -> str:
        """Return the key of a fetched image."""
        known = self.known_hash(request)
        if known is not None or isinstance(result, ItemRejected):
            return known or ""
        return self._pixels_hash(hashlib.sha256(result).hexdigest(), request)

    def _decode(self, decoder: Decoder, result: FetchResult) -> bytes | ItemRejected:
        if isinstance(result, ItemRejected):
            return result
        started = time.monotonic()
        try:
            return decoder.decode(result)
        except ItemRejected as error:
            return error
        finally:
            self._on_decoded(time.monotonic() - started)
