"""Many pollers and many streams at one batch that is being uploaded and answered meanwhile."""

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
#: Seconds that the streams have, when everything is done, to see it.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Who does what."""

    site: Site
    batch_id: str
    items: int
    items_a_second: int
    pollers: int
    #: Seconds between an answer and the next question of a poller.
    pause_s: float
    streams: int
    #: Those of the streams that take results, not progress alone.
    full_streams: int


@dataclass(slots=True)
class Seen:
    """What all of them have seen."""

    polls: Load = field(default_factory=Load)
    #: Statuses of the batch that polls were told.
    statuses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    #: What went wrong, and how often.
    errors: Counter[str] = field(default_factory=Counter)


def crowd(scene: Scene) -> Seen:
    """Everything of one scene, at once."""
    return uvloop.run(_Crowd(scene).run())


class _Crowd:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._seen = Seen()
        self._over = False

    async def run(self) -> Seen:
        began, cpu_began = time.perf_counter(), time.process_time()
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
        self._over = True
        await asyncio.gather(*pollers)
        self._seen.polls.seconds = time.perf_counter() - began
        self._seen.polls.cpu_s = time.process_time() - cpu_began
        return self._seen

    async def _guarded(self, doing: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._scene.items / self._scene.items_a_second + PATIENCE_S):
                await doing
        except Exception as error:
            self._seen.errors[f"{type(error).__name__}: {error}"] += 1

    async def _upload(self) -> None:
        """The batch, no faster than it shall run."""
        scene = self._scene
        connection = await scene.site.connect()
        head = "Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n"
        connection.begin(scene.site.request("POST", f"/v1/batches?id={scene.batch_id}", more=head))
        began, sent, all_lines = time.perf_counter(), 0, lines(scene.items)
        while sent < scene.items:
            due = min(scene.items, int((time.perf_counter() - began) * scene.items_a_second) + 1)
            if part := b"".join(next(all_lines) for _ in range(due - sent)):
                connection.write(part)
            sent = due
            await asyncio.sleep(PART_S)
        connection.write(b"")
        answer = await connection.answer()
        if answer.status != 202:
            self._seen.errors[f"the upload: {answer.status} {answer.body!r:.300}"] += 1
        connection.close()

    async def _until_known(self) -> None:
        """Streams begin when there is a batch."""
        connection = await self._scene.site.connect()
        request = self._scene.site.request("GET", f"/v1/batches/{self._scene.batch_id}")
        while (await connection.ask(request)).status == 404:
            await asyncio.sleep(PART_S)
        connection.close()

    async def _poll(self, rng: Random) -> None:
        """One who wants to know how far the batch is, again and again."""
        scene, seen, done = self._scene, self._seen, 0
        await asyncio.sleep(rng.uniform(0, scene.pause_s))
        connection = await scene.site.connect()
        request = scene.site.request("GET", f"/v1/batches/{scene.batch_id}")
        while not self._over:
            sent = time.perf_counter()
            answer = await connection.ask(request)
            seen.polls.taken.append(time.perf_counter() - sent)
            if answer.status != 200:
                seen.errors[f"a poll: {answer.status} {answer.body!r:.300}"] += 1
            else:
                batch = json.loads(answer.body)
                seen.statuses[batch["status"]] += 1
                now = batch["request_counts"]["completed"]
                if now < done:
                    seen.errors["a poll: the batch went backwards"] += 1
                done = now
            await asyncio.sleep(rng.uniform(0.5, 1.5) * scene.pause_s)
        connection.close()

    async def _stream(self, full: bool) -> None:
        """One who is told of it, to its end."""
        scene, seen = self._scene, self._seen
        connection = await scene.site.connect()
        path = f"/v1/batches/{scene.batch_id}/events" + ("" if full else "?results=false")
        answer = await connection.ask(scene.site.request("GET", path))
        if answer.status != 200:
            raise ConnectionError(f"a stream: {answer.status}")
        times_seen, last = bytearray(scene.items), {}
        async for event in connection.events():
            name = event.get("event", "")
            seen.events[name] += 1
            if name == "result":
                result = json.loads(event["data"])
                times_seen[result["index"]] += 1
                if not result["custom_id"] == result["text"] == str(result["index"]):
                    seen.errors["a stream: a wrong result"] += 1
            elif name in ("progress", "end"):
                last = {"event": name, **json.loads(event["data"])}
        connection.close()
        if last.get("event") != "end":
            seen.errors["a stream: no end"] += 1
        elif last["request_counts"]["completed"] != scene.items:
            seen.errors["a stream: the end is not that of the batch"] += 1
        if full and times_seen != b"\1" * scene.items:
            seen.errors["a stream: results missing or doubled"] += 1
