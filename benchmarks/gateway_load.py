"""What `benchmarks.gateway` asks of a gateway; each function runs in a process of its own."""

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

#: Lines that are sent at once.
PART_LINES: Final = 500


@dataclass(slots=True)
class Upload:
    """What sending a batch took."""

    seconds: float
    #: Bytes that were sent.
    size: int
    batch: dict[str, Any]


def lines(count: int, start: int = 0) -> Iterator[bytes]:
    """A batch; the null worker answers each item with its `custom_id`."""
    for number in range(start, start + count):
        image = f"https://images.example.com/collection/{number:07d}.jpg"
        yield b'{"custom_id": "%d", "image": "%b"}\n' % (number, image.encode())


def upload(site: Site, batch_id: str, count: int, zipped: bool) -> Upload:
    """One batch, as fast as it is taken."""
    headers = {"Authorization": f"Bearer {site.key}", "Content-Type": "application/jsonl"}
    parts = list(_parts(lines(count)))
    if zipped:
        headers["Content-Encoding"] = "gzip"
        parts = [gzip.compress(b"".join(parts))]
    gateway = HTTPConnection(urlsplit(site.address).netloc, timeout=600)
    began = time.perf_counter()
    path = f"/v1/batches?id={batch_id}"
    gateway.request("POST", path, iter(parts), headers, encode_chunked=True)
    answer = gateway.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    gateway.close()
    if answer.status != 202:
        raise SystemExit(f"upload: {answer.status} {body!r:.500}")
    return Upload(seconds, sum(map(len, parts)), json.loads(body))


def download(site: Site, batch_id: str, count: int) -> tuple[float, int]:
    """Seconds that reading all results takes, and how many of them are missing or wrong."""
    gateway = HTTPConnection(urlsplit(site.address).netloc, timeout=600)
    began = time.perf_counter()
    path = f"/v1/batches/{batch_id}/results"
    gateway.request("GET", path, headers={"Authorization": f"Bearer {site.key}"})
    answer = gateway.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    gateway.close()
    wrong = place = 0
    for place, line in enumerate(body.splitlines(), 1):
        found = json.loads(line)
        wrong += not (found["custom_id"] == found["text"] == str(place - 1))
    return seconds, wrong + abs(count - place)


def submit(site: Site, count: int, connections: int) -> tuple[Load, list[str]]:
    """Jobs, each by a request; their ids."""
    load = uvloop.run(ask_all(site, _submissions(site, count), connections))
    return load, [json.loads(answer.body)["id"] for answer in _good(load, 202)]


def poll(site: Site, ids: list[str], count: int, connections: int) -> tuple[Load, Counter[str]]:
    """Looks at these jobs, round and round; how often each status was seen."""
    asked = (site.request("GET", f"/v1/jobs/{ids[number % len(ids)]}") for number in range(count))
    load = uvloop.run(ask_all(site, asked, connections))
    found = [json.loads(answer.body) for answer in _good(load, 200)]
    if not {job["id"] for job in found} <= set(ids) or len(found) != count:
        raise SystemExit("polls were answered with other jobs")
    load.answers.clear()
    return load, Counter(job["status"] for job in found)


def _submissions(site: Site, count: int) -> Iterator[bytes]:
    for number in range(count):
        image = f"https://images.example.com/jobs/{number:07d}.jpg"
        body = json.dumps({"task": "caption", "image": image}).encode()
        yield site.request("POST", "/v1/jobs", body)


def _good(load: Load, status: int) -> list[Any]:
    bad = [answer for answer in load.answers if answer.status != status]
    if bad:
        raise SystemExit(f"{len(bad):,} requests failed, the first: {bad[0]!r:.500}")
    return load.answers


def _parts(all_lines: Iterator[bytes]) -> Iterator[bytes]:
    while part := b"".join(islice(all_lines, PART_LINES)):
        yield part
