"""Hostile files and hosts against the real system: each gets its code, neighbours nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stack import Worker, running_redis, running_worker
from producer import Client, Result
from tests.hostile.corpus import corpus
from tests.hostile.host import PATHS, running_host
from tests.hostile.specimen import ANSWERED, encoded
from tests.system.test_bad_input import scene_picture
from worker.images.memory_budget import BUDGET_BYTES

#: The largest file of the corpus has less.
MAX_IMAGE_BYTES = 8 << 20
#: Good pictures, each of which stands between hostile ones many times.
GOOD = [encoded(scene_picture(seed), "PNG") for seed in range(10, 16)]
#: Hostile files between two good ones.
BETWEEN = 5
#: What a consumer may grow by: the room for decoding, and the encoded images of its eight bulk
#: slots, which hold pages of eight: 200 MB if each were as large as the corpus has them.
CONSUMER_BYTES = BUDGET_BYTES + (200 << 20)
#: What the engine may grow by: it sees no file, only pixels of one size.
ENGINE_BYTES = 200 << 20


@pytest.fixture(scope="module")
def worker() -> Iterator[tuple[Client, Worker]]:
    """A system of its own, which remembers no answers and soon gives up on a host."""
    settings = {
        "BLIPLINE_MAX_IMAGE_BYTES": str(MAX_IMAGE_BYTES),
        "BLIPLINE_ANSWER_CACHE_S": "0",
        "BLIPLINE_FETCH_TIMEOUT_S": "3",
        "BLIPLINE_FETCH_ALLOW": "127.0.0.0/8",
    }
    with (
        running_redis() as url,
        running_worker(url, settings) as running,
        Client(url) as client,
    ):
        yield client, running


def tree(worker: Worker) -> dict[int, str]:
    """The worker's processes: id and command line."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {worker.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in found}


def peak_bytes(pid: int) -> int:
    """The most memory that it had so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


def alone(client: Client) -> list[str]:
    """What the good pictures are, asked one by one."""
    return [client.caption(image).result(timeout=60) for image in GOOD]


def outcome(result: Result) -> str:
    return str(result.error.code) if result.error else ANSWERED


def test_hostile_files_get_their_codes_and_their_neighbours_the_right_answers(
    worker: tuple[Client, Worker],
) -> None:
    client, running = worker
    captions = alone(client)
    before = {pid: peak_bytes(pid) for pid in tree(running)}
    items = []
    for place, one in enumerate(corpus()):
        items.append({"image": one.data, "custom_id": one.name})
        if place % BETWEEN == 0:
            good = place // BETWEEN % len(GOOD)
            items.append({"image": GOOD[good], "custom_id": f"good {good}"})

    results = list(client.submit_batch(items).results(timeout=90))

    wanted = {one.name: one.outcomes for one in corpus()}
    named = [(item["custom_id"], result) for item, result in zip(items, results, strict=True)]
    wrong = {
        name: outcome(result)
        for name, result in named
        if name in wanted and outcome(result) not in wanted[name]
    }
    assert wrong == {}
    goods = {(name, result.text) for name, result in named if name not in wanted}
    assert goods == {(f"good {place}", caption) for place, caption in enumerate(captions)}
    # Nobody died of it, nobody was started again, nobody has grown beyond bounds.
    assert tree(running).keys() == before.keys()
    for pid, command in tree(running).items():
        grown = peak_bytes(pid) - before[pid]
        assert grown < (CONSUMER_BYTES if "celery" in command else ENGINE_BYTES), command
    assert alone(client) == captions


def test_hostile_hosts_get_their_codes_and_their_neighbours_the_right_answers(
    worker: tuple[Client, Worker],
) -> None:
    client, running = worker
    captions = alone(client)
    before = {pid: peak_bytes(pid) for pid in tree(running)}
    with running_host(GOOD[0]) as host:
        items = []
        for place, path in enumerate(PATHS):
            items.append({"image": host.address(path), "custom_id": path})
            items.append({"image": GOOD[place % len(GOOD)], "custom_id": "good"})
        results = list(client.submit_batch(items).results(timeout=90))
    answers = dict(zip(PATHS, results[::2], strict=True))
    assert {path: outcome(result) for path, result in answers.items()} == PATHS
    assert {answers[path].text for path, code in PATHS.items() if code == ANSWERED} == {captions[0]}
    expected = [captions[place % len(GOOD)] for place in range(len(PATHS))]
    assert [result.text for result in results[1::2]] == expected
    assert tree(running).keys() == before.keys()
    for pid, command in tree(running).items():
        assert peak_bytes(pid) - before[pid] < CONSUMER_BYTES, command
    assert alone(client) == captions
