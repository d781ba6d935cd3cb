"""What the answer cache costs Redis: a look-up and a write for each item, and memory for a time."""

from __future__ import annotations

import hashlib

import redis

from benchmarks.server import Phase, read, table
from benchmarks.timing import note, timed
from producer.contract import CHUNK_ITEMS, ItemResult
from producer.ledger.keys import Keys
from worker.consumer.result_cache import ResultCache

#: As long as a caption.
ANSWER: ItemResult = {"text": "two dogs run along a beach with a ball in the sun"}


def kept_answers(server: redis.Redis, count: int) -> None:
    """As a consumer does for a chunk of uploaded images that nobody has asked about before."""
    note("keeping answers")
    cache = ResultCache(server, ttl_s=3600)
    keys = [Keys().cached_result(hashlib.sha256(b"%d" % n).hexdigest()) for n in range(count)]
    chunks = [keys[at : at + CHUNK_ITEMS] for at in range(0, count, CHUNK_ITEMS)]
    before = read(server)
    _, seconds = timed(lambda: _ask_and_keep(cache, chunks))
    phase = Phase("answers", count, seconds, before, read(server))
    print(table([phase]))
    print(
        f"each answer of {len(ANSWER['text'])} characters that is kept takes "
        f"{phase.kept_bytes:.0f} bytes of Redis\n"
    )


def _ask_and_keep(cache: ResultCache, chunks: list[list[str]]) -> None:
    for chunk in chunks:
        found = cache.lookup(chunk)
        cache.put([(key, ANSWER) for key, kept in zip(chunk, found, strict=True) if kept is None])
