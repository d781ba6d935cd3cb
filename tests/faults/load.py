"""A steady load of bulk and interactive jobs whose results are known beforehand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random
from typing import Final, TypeVar

import redis

from producer import BliplineError, Client, ConnectionFailed, Job, JobUnknown, WaitTimeout
from tests.faults.hosts import Host
from tests.faults.orders import CHUNK_ITEMS, QUESTIONS, Order, Scene, order
from tests.faults.processes import holds
from tests.faults.verdict import Verdict

#: Seconds without a further result after which a job counts as lost: many times the duration of
#: any fault and its recovery.
PATIENCE_S: Final = 120.0
#: Seconds between tries while Redis is unavailable or full.
RETRY_S: Final = 0.2
#: Batches that are open at the same time, and users that submit one job after another.
BATCHES: Final = 3
USERS: Final = 2
#: Seconds between a user's result and the next job.
THINK_S: Final = 0.3
#: Times that one job may be lost in a failover.
MAX_LOSSES: Final = 3

Value = TypeVar("Value")


class Load:
    """Threads that submit jobs and collect results until `stop`.

    A replica may lack the last writes of its master, and become the master. With `forgetful`, for
    such a Redis, a producer submits a job again that Redis no longer knows. Each thread of batches
    waits `batch_pause_s` before the next.
    """

    def __init__(
        self,
        redis_url: str,
        scenes: list[Scene],
        host: Host,
        seed: int,
        *,
        forgetful: bool = False,
        batch_pause_s: float = 0.0,
    ) -> None:
        self.verdict = Verdict()
        self._client = Client(redis_url)
        self._scenes = scenes
        self._host = host
        self._seed = seed
        self._forgetful = forgetful
        self._batch_pause_s = batch_pause_s
        self._patience_s = PATIENCE_S / 4 if forgetful else PATIENCE_S
        self._numbers = count()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        for number in range(BATCHES):
            self._run(self._submit_batches, Random(f"{self._seed} batches {number}"))
        for number in range(USERS):
            self._run(self._ask, Random(f"{self._seed} user {number}"))

    def stop(self) -> None:
        """Submit nothing more, and wait for all open jobs."""
        self._stop.set()
        deadline = time.monotonic() + 2 * PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                self.verdict.violate(f"{thread.name} did not end")
        self._client.close()

    def order(self, rng: Random) -> Order:
        """Return a batch that is not submitted yet."""
        return order(f"b{self._seed}-{next(self._numbers)}", self._scenes, self._host.address, rng)

    def adopt(self, batch: Order, rng: Random) -> None:
        """Submit a batch again whose producer died in the middle, and collect it."""
        self._run(self._deliver, batch, rng)

    def wait_for_work(self, items: int, timeout_s: float) -> bool:
        """Wait until that many more items are answered and others are open; return success."""
        enough = self.verdict.answered + items
        return holds(
            lambda: self.verdict.answered >= enough and self.verdict.open_items > 0, timeout_s
        )

    def _run(self, action: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                action(*arguments)
            except Exception as error:
                self.verdict.violate(f"{action.__name__}: {type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded, name=action.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _submit_batches(self, rng: Random) -> None:
        while not self._stop.wait(self._batch_pause_s):
            self._deliver(self.order(rng), rng)

    def _deliver(self, batch: Order, rng: Random) -> None:
        """Submit a batch, collect and check its results, and sometimes delete it."""
        self.verdict.submit(len(batch.items))
        self._resubmit_if_lost(partial(self._submit_and_collect, batch, texts={}))
        if rng.random() < 0.5:
            # A call whose reply was lost has deleted it.
            with suppress(JobUnknown):
                self._persist(self._client.batch(batch.batch_id).delete)

    def _submit_and_collect(self, order: Order, texts: dict[int, str]) -> None:
        self._persist(
            lambda: self._client.submit_batch(
                order.items, batch_id=order.batch_id, chunk_items=CHUNK_ITEMS
            )
        )
        self._collect(order, texts)

    def _collect(self, order: Order, texts: dict[int, str]) -> None:
        """Read every result once, as it completes, across lost connections."""
        batch = self._client.batch(order.batch_id)

        def read() -> None:
            seen = set()
            for result in batch.results(timeout=self._patience_s, as_completed=True):
                if result.index in seen:
                    self.verdict.violate(f"{order.batch_id}: item {result.index} came twice")
                seen.add(result.index)
                text = result.text if result.ok else f"error {result.error}"
                if result.index not in texts:
                    self.verdict.answer()
                if texts.setdefault(result.index, str(text)) != text:
                    self.verdict.violate(f"{order.batch_id}: item {result.index} has changed")

        self._persist(read)
        self.verdict.compare(order.batch_id, order.expected, texts)
        progress = self._persist(batch.progress)
        if not progress.finished or progress.failed:
            self.verdict.violate(f"{order.batch_id}: all results are there, but {progress}")

    def _ask(self, rng: Random) -> None:
        while not self._stop.wait(THINK_S):
            scene, question = rng.choice(self._scenes), rng.choice((None, *QUESTIONS))
            expected = scene.caption if question is None else scene.answers[question]
            self.verdict.submit(1)
            text = self._resubmit_if_lost(partial(self._answer, scene, question))
            self.verdict.answer()
            self.verdict.compare(f"{scene.path.name} {question}", [expected], {0: text})

    def _answer(self, scene: Scene, question: str | None) -> str:
        job = self._persist(partial(self._submit, scene, question))
        return self._persist(partial(job.result, timeout=self._patience_s))

    def _submit(self, scene: Scene, question: str | None) -> Job[str]:
        if question is None:
            return self._client.caption(scene.data)
        return self._client.ask(scene.data, question)

    def _persist(self, call: Callable[[], Value]) -> Value:
        """Repeat a call while Redis is unavailable or full, up to PATIENCE_S.

        A call that raised has submitted nothing: a batch may be submitted again, and a job has no
        id yet.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except BliplineError as error:
                transient = isinstance(error, ConnectionFailed) or error.code == "queue_full"
                if not transient or time.monotonic() > deadline:
                    raise
                self.verdict.retry()
                time.sleep(RETRY_S)

    def _resubmit_if_lost(self, submit: Callable[[], Value]) -> Value:
        """Submit again what a failover has lost, if Redis is forgetful."""
        for _ in range(MAX_LOSSES if self._forgetful else 0):
            try:
                return submit()
            except (JobUnknown, WaitTimeout) as error:
                self.verdict.losses.append(str(error))
        return submit()


def leftovers(connection: redis.Redis) -> list[str]:
    """Return the keys that never expire, except kombu's registry of queues."""
    names: list[bytes] = [
        key
        for key in connection.scan_iter(count=1000)
        if connection.ttl(key) == -1 and not key.startswith(b"_kombu.binding")
    ]
    return [name.decode() for name in sorted(names)]
