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
#: Characters of a digest: 128 bits as hexadecimal digits (ANSWER_DIGEST_CHARS of the ledger).
DIGEST_CHARS: Final = 32
#: Seconds that a list of digests outlives its results at least. A job whose model takes longer
#: stores no result.
RUN_S: Final = 3600
#: Reads the digests in a job's list.
_LISTED: Final = f"""
local listed, list = {{}}, redis.call('GET', KEYS[2]) or ''
for at = 1, #list, {DIGEST_CHARS} do listed[list:sub(at, at + {DIGEST_CHARS - 1})] = true end
"""
#: Returns results, and lists their digests for the running job that may store or use them. It must
#: succeed in a full Redis as well, in which a script may write after a write that needs no memory.
#: KEYS: the running jobs, the job's list, the results; ARGV: the job, the seconds that a list is
#: kept. A job that does not run any more was erased or cancelled, and gets no results.
_LOOKUP: Final = f"""
redis.call('ZREM', KEYS[1], '')
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {{}} end
{_LISTED}
local new = {{}}
for index = 3, #KEYS do
  local digest = KEYS[index]:sub(-{DIGEST_CHARS})
  if not listed[digest] then table.insert(new, digest) end
end
redis.call('APPEND', KEYS[2], table.concat(new))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return redis.call('MGET', unpack(KEYS, 3))
"""
#: Stores the results that a job's list contains, unless they and those of this and the previous
#: window would exceed the limit. Erasing a job deletes its list. A window is as long as a result is
#: kept, so that no older result exists. KEYS: the bytes by window, the job's list, the results;
#: ARGV: the seconds that a result and a list are kept, the limit in bytes, the values.
_PUT: Final = f"""
local ttl_s, limit = tonumber(ARGV[1]), tonumber(ARGV[3])
local window = math.floor(redis.call('TIME')[1] / ttl_s)
local bytes, new_bytes = 0, 0
for _, number in ipairs({{ window - 1, window }}) do
  bytes = bytes + tonumber(redis.call('HGET', KEYS[1], number) or 0)
end
{_LISTED}
for index = 3, #KEYS do
  local value = ARGV[index + 1]
  local size = #KEYS[index] + #value + {RESULT_BYTES}
  if listed[KEYS[index]:sub(-{DIGEST_CHARS})]
      and (limit == 0 or bytes + new_bytes + size <= limit) then
    if redis.call('SET', KEYS[index], value, 'EX', ttl_s, 'NX') then
      new_bytes = new_bytes + size
    end
  end
end
if new_bytes > 0 then
  redis.call('HINCRBY', KEYS[1], window, new_bytes)
  redis.call('HDEL', KEYS[1], window - 2)
  redis.call('EXPIRE', KEYS[1], 2 * ttl_s)
  redis.call('EXPIRE', KEYS[2], ARGV[2])
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
        self._lookup_script = client.register_script(_LOOKUP)
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
        return self._keys.cached_result(
            hashlib.sha256(identity.encode()).hexdigest()[:DIGEST_CHARS]
        )

    def lookup(self, task_id: str, keys: Sequence[str | None]) -> list[ItemResult | None]:
        """Return the cached result of each key, or None, to a running job.

        The keys are listed for the job: it can store these results, and erasing it erases them.
        """
        known = [key for key in keys if key is not None]
        if not known:
            return [None] * len(keys)
        names = [self._keys.running, self._keys.answers_of(task_id), *known]
        try:
            values = self._lookup_script(names, [task_id, self._ttl_s + RUN_S])
        except redis.RedisError as error:
            log.warning("cannot read the result cache: %s", error)
            values = []
        # There are no values if the job does not run any more.
        cached = dict(zip(known, values, strict=False))
        stored = [None if key is None else cached.get(key) for key in keys]
        return [None if value is None else json.loads(value) for value in stored]

    def put(self, task_id: str, results: Sequence[tuple[str, ItemResult]]) -> None:
        """Cache results for `ttl_s`, as many as fit, unless their job was erased."""
        if not results:
            return
        names = [self._keys.cached_bytes(self._ttl_s), self._keys.answers_of(task_id)]
        keys = [*names, *(key for key, _ in results)]
        values = [json.dumps(result) for _, result in results]
        times = [self._ttl_s, self._ttl_s + RUN_S]
        try:
            self._put_script(keys=keys, args=[*times, self._max_bytes, *values])
        except redis.RedisError as error:
            # A full Redis must not fail the items.
            log.warning("cannot write the result cache: %s", error)
