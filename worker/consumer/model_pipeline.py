"""The item pipeline of a consumer whose engine has models, and what it closes at the end.

A consumer of the null engine does not import this module: it needs neither the decoders of images
nor an HTTP client.
"""

from __future__ import annotations

import redis

from config.settings import WorkerSettings
from producer.ledger.keys import Keys
from producer.net.address_policy import split_list
from worker.consumer.metrics import ConsumerMetrics
from worker.consumer.pipeline import ItemPipeline
from worker.consumer.polish import Polisher
from worker.consumer.result_cache import ResultCache
from worker.consumer.text_publisher import TextPublisher
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo
from worker.images.fetcher import Fetcher
from worker.images.loader import ImageLoader
from worker.images.memory_budget import BUDGET_BYTES
from worker.images.resizing import load_torch


class ModelPipeline:
    """The pipeline, with its fetcher and its polisher."""

    def __init__(
        self,
        settings: WorkerSettings,
        connection: redis.Redis,
        engine: EngineClient,
        info: EngineInfo,
        texts: TextPublisher,
        metrics: ConsumerMetrics,
    ) -> None:
        keys = Keys(settings.key_prefix)
        # One half of the image memory for encoded images, one for decoding.
        budget_bytes = settings.image_memory_mb * (1 << 20) // 2 or BUDGET_BYTES
        self._fetcher = Fetcher(
            connection,
            image_root=settings.image_root,
            max_bytes=settings.max_image_bytes,
            timeout_s=settings.fetch_timeout_s,
            policy=settings.fetch_policy(),
            stores=split_list(settings.fetch_stores),
            per_host=settings.fetch_per_host,
            keys=keys,
            budget_bytes=budget_bytes,
        )
        if any(model.image_backend == "torchvision" for model in info.models):
            load_torch()
        images = ImageLoader(
            self._fetcher,
            engine,
            info,
            settings.max_image_pixels,
            settings.jpeg_draft,
            budget_bytes,
            settings.truncated_images == "accept",
            metrics.decode_seconds.observe,
        )
        cache = ResultCache(
            connection, settings.answer_cache_s, keys, max_bytes=settings.answer_cache_mb << 20
        )
        self._polisher = (
            Polisher(settings.polish_url, settings.polish_model, settings.polish_key)
            if settings.polish_url
            else None
        )
        self.items = ItemPipeline(images, engine, cache, self._polisher, texts, metrics)

    def close(self) -> None:
        """Cancel fetches and requests in progress, and close their connections."""
        if self._polisher is not None:
            self._polisher.close()
        self._fetcher.close()
