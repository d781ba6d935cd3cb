"""The result cache: deterministic results in Redis, keyed by image, item, options and model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import redis

from producer.contract import ItemResult
from producer.ledger.keys import Keys
from worker.consumer.validation import CheckedItem, ChunkOptions
from worker.software import software

log = logging.getLogger(__name__)


class ResultCache:
    """A best-effort cache: errors are only logged. It is off if `ttl_s` is 0."""

    def __init__(
        self,
        client: redis.Redis,
        ttl_s: int,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._redis = client
        self._keys = keys
        self._ttl_s = ttl_s

    def key(
        self, item: CheckedItem, pixels_hash: str, options: ChunkOptions, revision: str
    ) -> str | None:
        """Return the cache key of an item; None if its result is not deterministic.

        `pixels_hash` and the model's `revision` cover the settings and the software of consumer
        and engine; tests/consumer/test_answer_key.py lists all of them.
        """
        if not self._ttl_s or not options.decoding.deterministic:
            return None
        request = [item.task.short, item.text, item.history, item.texts]
        source = [pixels_hash, revision, software()]
        identity = json.dumps([source, request, asdict(options.decoding)])
        return self._keys.cached_result(hashlib.sha256(identity.encode()).hexdigest())

    def lookup(self, keys: Sequence[str | None]) -> list[ItemResult | None]:
        """Return the cached result of each key, or None."""
        known = [key for key in keys if key is not None]
        if not known:
            return [None] * len(keys)
        try:
            cached = dict(zip(known, self._redis.mget(known), strict=True))
        except redis.RedisError as error:
            log.warning("cannot read the result cache: %s", error)
            return [None] * len(keys)
        values = [None if key is None else cached[key] for key in keys]
        return [None if value is None else json.loads(value) for value in values]

    def put(self, results: Sequence[tuple[str, ItemResult]]) -> None:
        """Cache results for `ttl_s`."""
        if not results:
            return
        pipe = self._redis.pipeline(transaction=False)
        for key, result in results:
            pipe.set(key, json.dumps(result), ex=self._ttl_s)
        try:
            pipe.execute()
        except redis.RedisError as error:
            # A full Redis must not fail the items.
            log.warning("cannot write the result cache: %s", error)
