"""A steady load of bulk and interactive work whose every answer is known beforehand."""

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

#: Seconds without a further result after which work counts as lost: many times what any fault
#: takes, and what comes after it.
PATIENCE_S: Final = 120.0
#: Seconds between two tries at a Redis that is away or full.
RETRY_S: Final = 0.2
#: Batches that are open at the same time, and users that ask one thing after another.
BATCHES: Final = 3
USERS: Final = 2
#: Seconds between a user's answer and the next question.
THINK_S: Final = 0.3
#: How often one piece of work may be forgotten.
FORGOTTEN_OFTEN: Final = 3

Value = TypeVar("Value")


class Load:
    """Threads that submit and collect until they are told to stop.

    A replica may lack what its master accepted last, and become the master. `forgetful` says that
    Redis is such a one: then a producer that hears no more of its work submits it again.
    """

    def __init__(
        self, redis_url: str, scenes: list[Scene], host: Host, seed: int, *, forgetful: bool = False
    ) -> None:
        self.verdict = Verdict()
        self._client = Client(redis_url)
        self._scenes = scenes
        self._host = host
        self._seed = seed
        self._forgetful = forgetful
        self._patience_s = PATIENCE_S / 4 if forgetful else PATIENCE_S
        self._numbers = count()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for number in range(BATCHES):
            self._run(self._submit_batches, Random(f"{self._seed} batches {number}"))
        for number in range(USERS):
            self._run(self._ask, Random(f"{self._seed} user {number}"))

    def stop(self) -> None:
        """Ask for no more, and wait for everything that was asked."""
        self._stop.set()
        deadline = time.monotonic() + 2 * PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                self.verdict.violated(f"{thread.name} never came to an end")
        self._client.close()

    def order(self, rng: Random) -> Order:
        """A batch that nobody has submitted yet."""
        return order(f"b{self._seed}-{next(self._numbers)}", self._scenes, self._host.address, rng)

    def adopt(self, one: Order, rng: Random) -> None:
        """Submit a batch whose producer has died in the middle of it again, and collect it."""
        self._run(self._deliver, one, rng)

    def wait_for_work(self, items: int, timeout_s: float) -> bool:
        """Wait until so many more items are answered and others are open; whether they were."""
        enough = self.verdict.answered + items
        return holds(
            lambda: self.verdict.answered >= enough and self.verdict.open_items > 0, timeout_s
        )

    def _run(self, act: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                act(*arguments)
            except Exception as error:
                self.verdict.violated(f"{act.__name__}: {type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded, name=act.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _submit_batches(self, rng: Random) -> None:
        while not self._stop.is_set():
            self._deliver(self.order(rng), rng)

    def _deliver(self, one: Order, rng: Random) -> None:
        """Submit until it is in, collect, check, and sometimes delete."""
        self.verdict.ask(len(one.items))
        self._until_known(partial(self._order, one, texts={}))
        if rng.random() < 0.5:
            # A call whose answer was lost has done it.
            with suppress(JobUnknown):
                self._persist(self._client.batch(one.batch_id).delete)

    def _order(self, one: Order, texts: dict[int, str]) -> None:
        self._persist(
            lambda: self._client.submit_batch(
                one.items, batch_id=one.batch_id, chunk_items=CHUNK_ITEMS
            )
        )
        self._collect(one, texts)

    def _collect(self, one: Order, texts: dict[int, str]) -> None:
        """Every item once, as they come, whatever happens to the connection meanwhile."""
        batch = self._client.batch(one.batch_id)

        def read() -> None:
            seen = set()
            for result in batch.results(timeout=self._patience_s, as_completed=True):
                if result.index in seen:
                    self.verdict.violated(f"{one.batch_id}: item {result.index} came twice")
                seen.add(result.index)
                said = result.text if result.ok else f"error {result.error}"
                if result.index not in texts:
                    self.verdict.answer()
                if texts.setdefault(result.index, str(said)) != said:
                    self.verdict.violated(f"{one.batch_id}: item {result.index} has changed")

        self._persist(read)
        self.verdict.compare(one.batch_id, one.expected, texts)
        progress = self._persist(batch.progress)
        if not progress.finished or progress.failed:
            self.verdict.violated(f"{one.batch_id}: all are there, and yet {progress}")

    def _ask(self, rng: Random) -> None:
        while not self._stop.wait(THINK_S):
            scene, question = rng.choice(self._scenes), rng.choice((None, *QUESTIONS))
            expected = scene.caption if question is None else scene.answers[question]
            self.verdict.ask(1)
            text = self._until_known(partial(self._answer, scene, question))
            self.verdict.answer()
            self.verdict.compare(f"{scene.path.name} {question}", [expected], {0: text})

    def _answer(self, scene: Scene, question: str | None) -> str:
        job = self._persist(partial(self._submit, scene, question))
        return self._persist(partial(job.result, timeout=self._patience_s))

    def _submit(self, scene: Scene, question: str | None) -> Job[str]:
        if question is None:
            return self._client.caption(scene.data)
        return self._client.ask(scene.data, question)

    def _persist(self, act: Callable[[], Value]) -> Value:
        """Do it again for as long as Redis is away or full, within reason.

        What raised was not handed over: a batch may be submitted again, and a job has no id yet.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return act()
            except BliplineError as error:
                passing = isinstance(error, ConnectionFailed) or error.code == "queue_full"
                if not passing or time.monotonic() > deadline:
                    raise
                self.verdict.retried()
                time.sleep(RETRY_S)

    def _until_known(self, act: Callable[[], Value]) -> Value:
        """Where Redis may forget what it was told, tell it again."""
        for _ in range(FORGOTTEN_OFTEN if self._forgetful else 0):
            try:
                return act()
            except (JobUnknown, WaitTimeout) as error:
                self.verdict.forgotten.append(str(error))
        return act()


def leftovers(connection: redis.Redis) -> list[str]:
    """What would stay in Redis for ever; kombu's registry of queues is meant to."""
    names: list[bytes] = [
        key
        for key in connection.scan_iter(count=1000)
        if connection.ttl(key) == -1 and not key.startswith(b"_kombu.binding")
    ]
    return [name.decode() for name in sorted(names)]
