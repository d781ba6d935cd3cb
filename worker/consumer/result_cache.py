"""The result cache: deterministic results in Redis, keyed by image, item, options and model.

Its size is bounded: results outlive the jobs that they are counted with, and repeat texts of
requests, so that one caller could fill Redis.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import redis

from producer.contract import ItemResult, Task
from producer.ledger.keys import Keys
from worker.consumer.validation import CheckedItem
from worker.engine.request import GenerationOptions
from worker.recipes.capfilt import nucleus_options
from worker.software import software

log = logging.getLogger(__name__)

#: Bytes of Redis for a result in addition to its key and value (benchmarks/result_cache.py).
RESULT_BYTES: Final = 136
#: Stores results unless those of this and the previous window would exceed the limit. A window is
#: as long as a result is kept, so that no older result exists. KEYS: the bytes by window, the
#: results; ARGV: the seconds that a result is kept, the limit in bytes, the values.
_PUT: Final = f"""
local ttl_s, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local window = math.floor(redis.call('TIME')[1] / ttl_s)
local bytes, new_bytes = 0, 0
for _, number in ipairs({{ window - 1, window }}) do
  bytes = bytes + tonumber(redis.call('HGET', KEYS[1], number) or 0)
end
for index = 2, #KEYS do
  local value = ARGV[index + 1]
  local size = #KEYS[index] + #value + {RESULT_BYTES}
  if limit == 0 or bytes + new_bytes + size <= limit then
    if redis.call('SET', KEYS[index], value, 'EX', ttl_s, 'NX') then
      new_bytes = new_bytes + size
    end
  end
end
if new_bytes > 0 then
  redis.call('HINCRBY', KEYS[1], window, new_bytes)
  redis.call('HDEL', KEYS[1], window - 2)
  redis.call('EXPIRE', KEYS[1], 2 * ttl_s)
end
"""


class ResultCache:
    """A best-effort cache: errors are only logged. It is off if `ttl_s` is 0.

    It stores no further results while those of Redis have `max_bytes`; 0 means unlimited.
    """

    def __init__(
        self,
        client: redis.Redis,
        ttl_s: int,
        keys: Keys = Keys(),  # noqa: B008 - immutable
        *,
        max_bytes: int = 0,
    ) -> None:
        self._redis = client
        self._put_script = client.register_script(_PUT)
        self._max_bytes = max_bytes
        self._keys = keys
        self._ttl_s = ttl_s

    def key(
        self, item: CheckedItem, pixels_hash: str, decoding: GenerationOptions, revision: str
    ) -> str | None:
        """Return the cache key of an item; None if its result is not deterministic.

        `pixels_hash` and the model's `revision` cover the settings and the software of consumer
        and engine; tests/consumer/test_answer_key.py lists all of them.
        """
        if item.task is Task.CAPFILT and item.filter_terms.captions:
            decoding = nucleus_options(decoding)
        if not self._ttl_s or not decoding.deterministic:
            return None
        request: list[Any] = [item.task.short, item.text, item.history, item.texts]
        if item.answers:
            request.append(item.answers)
        if item.task is Task.DESCRIBE:
            request += [item.prompts, item.detail]
        if item.task is Task.CAPFILT:
            request.append(asdict(item.filter_terms))
        source = [pixels_hash, revision, software()]
        identity = json.dumps([source, request, asdict(decoding)])
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
        """Cache results for `ttl_s`, as many as fit."""
        if not results:
            return
        keys = [self._keys.cached_bytes(self._ttl_s), *(key for key, _ in results)]
        values = [json.dumps(result) for _, result in results]
        try:
            self._put_script(keys=keys, args=[self._ttl_s, self._max_bytes, *values])
        except redis.RedisError as error:
            # A full Redis must not fail the items.
            log.warning("cannot write the result cache: %s", error)
