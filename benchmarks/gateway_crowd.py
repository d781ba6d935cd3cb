"""Many pollers and event streams of one batch while it is uploaded and answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import uvloop

from benchmarks.gateway_load import lines
from benchmarks.http_load import Load, Site

#: Seconds between two parts of the upload.
PART_S: Final = 0.05
#: Seconds that streams may take to end after the batch is done.
GRACE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """The numbers of pollers, streams and items."""

    site: Site
    batch_id: str
    items: int
    items_a_second: int
    pollers: int
    #: Seconds between a response and a poller's next request.
    pause_s: float
    streams: int
    #: Number of streams with results, not only progress.
    full_streams: int


@dataclass(slots=True)
class Observations:
    """Responses, events and errors of all pollers and streams."""

    polls: Load = field(default_factory=Load)
    #: Statuses of the batch in polls.
    statuses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    #: Number of each error.
    errors: Counter[str] = field(default_factory=Counter)


def run_scene(scene: Scene) -> Observations:
    """Run all pollers and streams of a scene at once."""
    return uvloop.run(_Crowd(scene).run())


class _Crowd:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._observed = Observations()
        self._ended = False

    async def run(self) -> Observations:
        started, cpu_started = time.perf_counter(), time.process_time()
        uploading = asyncio.create_task(self._upload())
        await self._until_known()
        scene = self._scene
        streams = [
            asyncio.create_task(self._guarded(self._stream(number < scene.full_streams)))
            for number in range(scene.streams)
        ]
        pollers = [
            asyncio.create_task(self._guarded(self._poll(Random(number))))
            for number in range(scene.pollers)
        ]
        await uploading
        await asyncio.gather(*streams)
        self._ended = True
        await asyncio.gather(*pollers)
        self._observed.polls.seconds = time.perf_counter() - started
        self._observed.polls.cpu_s = time.process_time() - cpu_started
        return self._observed

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._scene.items / self._scene.items_a_second + GRACE_S):
                await work
        except Exception as error:
            self._observed.errors[f"{type(error).__name__}: {error}"] += 1

    async def _upload(self) -> None:
        """Upload the batch at the scene's rate."""
        scene = self._scene
        connection = await scene.site.connect()
        head = "Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n"
        connection.begin(scene.site.request("POST", f"/v1/batches?id={scene.batch_id}", more=head))
        started, sent, all_lines = time.perf_counter(), 0, lines(scene.items)
        while sent < scene.items:
            due = min(scene.items, int((time.perf_counter() - started) * scene.items_a_second) + 1)
            if part := b"".join(next(all_lines) for _ in range(due - sent)):
                connection.write(part)
            sent = due
            await asyncio.sleep(PART_S)
        connection.write(b"")
        answer = await connection.answer()
        if answer.status != 202:
            self._observed.errors[f"the upload: {answer.status} {answer.body!r:.300}"] += 1
        connection.close()

    async def _until_known(self) -> None:
        """Wait until the batch exists."""
        connection = await self._scene.site.connect()
        request = self._scene.site.request("GET", f"/v1/batches/{self._scene.batch_id}")
        while (await connection.ask(request)).status == 404:
            await asyncio.sleep(PART_S)
        connection.close()

    async def _poll(self, rng: Random) -> None:
        """Poll the batch until the end."""
        scene, observed, done = self._scene, self._observed, 0
        await asyncio.sleep(rng.uniform(0, scene.pause_s))
        connection = await scene.site.connect()
        request = scene.site.request("GET", f"/v1/batches/{scene.batch_id}")
        while not self._ended:
            sent = time.perf_counter()
            answer = await connection.ask(request)
            observed.polls.latencies.append(time.perf_counter() - sent)
            if answer.status != 200:
                observed.errors[f"a poll: {answer.status} {answer.body!r:.300}"] += 1
            else:
                batch = json.loads(answer.body)
                observed.statuses[batch["status"]] += 1
                now = batch["request_counts"]["completed"]
                if now < done:
                    observed.errors["a poll: the progress went backwards"] += 1
                done = now
            await asyncio.sleep(rng.uniform(0.5, 1.5) * scene.pause_s)
        connection.close()

    async def _stream(self, full: bool) -> None:
        """Read an event stream to its end."""
        scene, observed = self._scene, self._observed
        connection = await scene.site.connect()
        path = f"/v1/batches/{scene.batch_id}/events" + ("" if full else "?results=false")
        answer = await connection.ask(scene.site.request("GET", path))
        if answer.status != 200:
            raise ConnectionError(f"a stream: {answer.status}")
        received, last = bytearray(scene.items), {}
        async for event in connection.events():
            name = event.get("event", "")
            observed.events[name] += 1
            if name == "result":
                result = json.loads(event["data"])
                received[result["index"]] += 1
                if not result["custom_id"] == result["text"] == str(result["index"]):
                    observed.errors["a stream: a wrong result"] += 1
            elif name in ("progress", "end"):
                last = {"event": name, **json.loads(event["data"])}
        connection.close()
        if last.get("event") != "end":
            observed.errors["a stream: no end"] += 1
        elif last["request_counts"]["completed"] != scene.items:
            observed.errors["a stream: the wrong end"] += 1
        if full and received != b"\1" * scene.items:
            observed.errors["a stream: results missing or duplicated"] += 1
