"""The cost of the result cache in Redis: a look-up and a write for each item, and memory."""

from __future__ import annotations

import hashlib

import redis

from benchmarks.server import Phase, read, table
from benchmarks.timing import note, timed
from producer.contract import CHUNK_ITEMS, ItemResult
from producer.ledger.keys import Keys
from worker.consumer.result_cache import DIGEST_CHARS, ResultCache

#: An answer of a caption's length.
ANSWER: ItemResult = {"text": "two dogs run along a beach with a ball in the sun"}


def result_cache_cost(server: redis.Redis, count: int) -> None:
    """Look up and store results as a consumer does for chunks of new images."""
    note("caching results")
    cache = ResultCache(server, ttl_s=3600)
    digests = (hashlib.sha256(b"%d" % n).hexdigest()[:DIGEST_CHARS] for n in range(count))
    keys = [Keys().cached_result(digest) for digest in digests]
    chunks = [keys[at : at + CHUNK_ITEMS] for at in range(0, count, CHUNK_ITEMS)]
    server.zadd(Keys().running, {f"b:{number}": 0 for number in range(len(chunks))})
    before = read(server)
    _, seconds = timed(lambda: _look_up_and_store(cache, chunks))
    phase = Phase("answers", count, seconds, before, read(server))
    print(table([phase]))
    print(
        f"a cached result of {len(ANSWER['text'])} characters takes "
        f"{phase.kept_bytes:.0f} bytes of Redis\n"
    )


def _look_up_and_store(cache: ResultCache, chunks: list[list[str]]) -> None:
    for number, chunk in enumerate(chunks):
        pairs = zip(chunk, cache.lookup(f"b:{number}", chunk), strict=True)
        cache.put(f"b:{number}", [(key, ANSWER) for key, cached in pairs if cached is None])
