"""Answers that were given before, kept in Redis for whoever asks the same of the same model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import redis

from producer.ledger.keys import Keys
from worker.consumer.validation import CheckedItem, ChunkOptions
from worker.errors import Result

log = logging.getLogger(__name__)


class ResultCache:
    """A cache, so whatever goes wrong with it only costs time. Off where `ttl_s` is 0."""

    def __init__(
        self,
        client: redis.Redis,
        ttl_s: int,
        jpeg_draft: int = 0,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._redis = client
        self._keys = keys
        self._ttl_s = ttl_s
        self._jpeg_draft = jpeg_draft

    def key(
        self, row: CheckedItem, image_hash: str, terms: ChunkOptions, revision: str
    ) -> str | None:
        """Where the answer to this row is kept; None if it is not always the same."""
        if not self._ttl_s or not terms.options.repeatable:
            return None
        asked = [row.task.short, row.text, row.history, row.texts]
        seen = [image_hash, self._jpeg_draft, revision]
        known = json.dumps([seen, asked, asdict(terms.options)])
        return self._keys.answer(hashlib.sha256(known.encode()).hexdigest())

    def lookup(self, keys: Sequence[str | None]) -> list[Result | None]:
        """The answer behind each key, where there is one."""
        wanted = [key for key in keys if key is not None]
        if not wanted:
            return [None] * len(keys)
        try:
            kept = dict(zip(wanted, self._redis.mget(wanted), strict=True))
        except redis.RedisError as error:
            log.warning("cannot look up answers: %s", error)
            return [None] * len(keys)
        found = [None if key is None else kept[key] for key in keys]
        return [None if answer is None else json.loads(answer) for answer in found]

    def put(self, answers: Sequence[tuple[str, Result]]) -> None:
        """Keep these for a while."""
        if not answers:
            return
        pipe = self._redis.pipeline(transaction=False)
        for key, result in answers:
            pipe.set(key, json.dumps(result), ex=self._ttl_s)
        try:
            pipe.execute()
        except redis.RedisError as error:
            # A Redis that is full still answers what was asked.
            log.warning("cannot keep answers: %s", error)
