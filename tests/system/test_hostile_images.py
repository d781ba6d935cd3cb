"""Hostile files and hosts in the real system: each gets its code and harms no neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.stack import Worker, running_redis, running_worker
from producer import Client, Result
from tests.echo_worker import ENVIRONMENT
from tests.hostile.bombs import bombs
from tests.hostile.corpus import corpus
from tests.hostile.host import PATHS, running_host
from tests.hostile.specimen import ANSWERED, encoded
from tests.system.reference import scene_picture
from worker.images.memory_budget import BUDGET_BYTES

#: Above the largest file of the corpus.
MAX_IMAGE_BYTES = 8 << 20
#: Good pictures, each of which occurs many times between hostile ones.
GOOD = [encoded(scene_picture(seed), "PNG") for seed in range(10, 16)]
#: Hostile files between two good ones.
BETWEEN = 5
#: Maximum growth of a consumer: the budget for decoding, and the encoded images of its eight bulk
#: slots, which hold pages of eight: 200 MB if each were as large as the largest of the corpus.
CONSUMER_BYTES = BUDGET_BYTES + (200 << 20)
#: Maximum growth of the engine: it receives no files, only pixels of one size.
ENGINE_BYTES = 200 << 20


@pytest.fixture(
    scope="module", params=["echo", pytest.param("model", marks=pytest.mark.exhaustive)]
)
def worker(request: pytest.FixtureRequest) -> Iterator[tuple[Client, Worker]]:
    """A system of its own without a result cache, and with a short fetch timeout.

    Its engine echoes, or has a model.
    """
    model = request.param == "model"
    engine = (
        {"BLIPLINE_MODEL": str(request.getfixturevalue("checkpoint"))} if model else ENVIRONMENT
    )
    settings = {
        **engine,
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
    """Return the ids and command lines of the worker's processes."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    pids = {worker.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in pids}


def peak_bytes(pid: int) -> int:
    """Return the peak memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


def alone(client: Client) -> list[str]:
    """Return the captions of the good pictures, submitted one by one."""
    return [client.caption(image).result(timeout=60) for image in GOOD]


def outcome(result: Result) -> str:
    return str(result.error.code) if result.error else ANSWERED


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_hostile_files_get_their_codes_and_their_neighbours_the_right_results(
    worker: tuple[Client, Worker], step: int
) -> None:
    # All that may need much memory, and a part of the others.
    files = [*bombs(), *corpus()[::step]]
    client, running = worker
    captions = alone(client)
    assert len(set(captions)) > len(GOOD) / 2
    before = {pid: peak_bytes(pid) for pid in tree(running)}
    items: list[dict[str, Any]] = []
    for index, file in enumerate(files):
        items.append({"image": file.data, "custom_id": file.name})
        if index % BETWEEN == 0:
            good = index // BETWEEN % len(GOOD)
            items.append({"image": GOOD[good], "custom_id": f"good {good}"})

    results = list(client.submit_batch(items).results(timeout=90))

    allowed = {file.name: file.outcomes for file in files}
    named = [(item["custom_id"], result) for item, result in zip(items, results, strict=True)]
    unexpected = {
        name: outcome(result)
        for name, result in named
        if name in allowed and outcome(result) not in allowed[name]
    }
    assert unexpected == {}
    goods = {(name, result.text) for name, result in named if name not in allowed}
    assert goods == {(f"good {index}", caption) for index, caption in enumerate(captions)}
    # No process died, was restarted, or grew beyond its limit.
    assert tree(running).keys() == before.keys()
    for pid, command in tree(running).items():
        grown = peak_bytes(pid) - before[pid]
        assert grown < (CONSUMER_BYTES if "worker.consumer" in command else ENGINE_BYTES), command
    assert alone(client) == captions


def test_hostile_hosts_get_their_codes_and_their_neighbours_the_right_results(
    worker: tuple[Client, Worker],
) -> None:
    client, running = worker
    captions = alone(client)
    assert len(set(captions)) > len(GOOD) / 2
    before = {pid: peak_bytes(pid) for pid in tree(running)}
    with running_host(GOOD[0]) as host:
        items: list[dict[str, Any]] = []
        for index, path in enumerate(PATHS):
            items.append({"image": host.address(path), "custom_id": path})
            items.append({"image": GOOD[index % len(GOOD)], "custom_id": "good"})
        results = list(client.submit_batch(items).results(timeout=90))
    answers = dict(zip(PATHS, results[::2], strict=True))
    assert {path: outcome(result) for path, result in answers.items()} == PATHS
    assert {answers[path].text for path, code in PATHS.items() if code == ANSWERED} == {captions[0]}
    expected = [captions[index % len(GOOD)] for index in range(len(PATHS))]
    assert [result.text for result in results[1::2]] == expected
    assert tree(running).keys() == before.keys()
    for pid, command in tree(running).items():
        assert peak_bytes(pid) - before[pid] < CONSUMER_BYTES, command
    assert alone(client) == captions
