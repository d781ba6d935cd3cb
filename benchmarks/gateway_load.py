"""The requests of `benchmarks.gateway`; each function runs in a separate process."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from benchmarks.http_load import Load, Site, ask_all

#: Lines of an HTTP chunk.
PART_LINES: Final = 500


@dataclass(slots=True)
class Upload:
    """Time and size of an upload, and the batch."""

    seconds: float
    #: Bytes sent.
    size: int
    batch: dict[str, Any]


def lines(count: int, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a batch; the null worker answers each with its `custom_id`."""
    for number in range(start, start + count):
        image = f"https://images.example.com/collection/{number:07d}.jpg"
        yield b'{"custom_id": "%d", "image": "%b"}\n' % (number, image.encode())


def upload(site: Site, batch_id: str, count: int, gzipped: bool) -> Upload:
    """Upload a batch as fast as possible."""
    headers = {"Authorization": f"Bearer {site.key}", "Content-Type": "application/jsonl"}
    parts = list(_parts(lines(count)))
    if gzipped:
        headers["Content-Encoding"] = "gzip"
        parts = [gzip.compress(b"".join(parts))]
    gateway = HTTPConnection(urlsplit(site.address).netloc, timeout=600)
    started = time.perf_counter()
    path = f"/v1/batches?id={batch_id}"
    gateway.request("POST", path, iter(parts), headers, encode_chunked=True)
    answer = gateway.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - started
    gateway.close()
    if answer.status != 202:
        raise SystemExit(f"upload: {answer.status} {body!r:.500}")
    return Upload(seconds, sum(map(len, parts)), json.loads(body))


def download(site: Site, batch_id: str, count: int) -> tuple[float, int]:
    """Read all results; return the seconds and the number of missing or wrong ones."""
    gateway = HTTPConnection(urlsplit(site.address).netloc, timeout=600)
    started = time.perf_counter()
    path = f"/v1/batches/{batch_id}/results"
    gateway.request("GET", path, headers={"Authorization": f"Bearer {site.key}"})
    answer = gateway.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - started
    gateway.close()
    wrong = number = 0
    for number, line in enumerate(body.splitlines(), 1):
        result = json.loads(line)
        wrong += not (result["custom_id"] == result["text"] == str(number - 1))
    return seconds, wrong + abs(count - number)


def submit(site: Site, count: int, connections: int) -> tuple[Load, list[str]]:
    """Submit jobs, one per request; return the load and their ids."""
    load = uvloop.run(ask_all(site, _submissions(site, count), connections))
    return load, [json.loads(answer.body)["id"] for answer in _successful(load, 202)]


def poll(site: Site, ids: list[str], count: int, connections: int) -> tuple[Load, Counter[str]]:
    """Poll jobs in turn; return the load and the number of each status."""
    requests = (
        site.request("GET", f"/v1/jobs/{ids[number % len(ids)]}") for number in range(count)
    )
    load = uvloop.run(ask_all(site, requests, connections))
    jobs = [json.loads(answer.body) for answer in _successful(load, 200)]
    if not {job["id"] for job in jobs} <= set(ids) or len(jobs) != count:
        raise SystemExit("polls returned other jobs")
    load.answers.clear()
    return load, Counter(job["status"] for job in jobs)


def _submissions(site: Site, count: int) -> Iterator[bytes]:
    for number in range(count):
        image = f"https://images.example.com/jobs/{number:07d}.jpg"
        body = json.dumps({"task": "caption", "image": image}).encode()
        yield site.request("POST", "/v1/jobs", body)


def _successful(load: Load, status: int) -> list[Any]:
    bad = [answer for answer in load.answers if answer.status != status]
    if bad:
        raise SystemExit(f"{len(bad):,} requests failed, the first: {bad[0]!r:.500}")
    return load.answers


def _parts(all_lines: Iterator[bytes]) -> Iterator[bytes]:
    while part := b"".join(islice(all_lines, PART_LINES)):
        yield part
