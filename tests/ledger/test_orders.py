"""All orders of submit, cancel, claim, finish, delete, retry and deadline, of a job and a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any, Final

import pytest
import redis

from producer import Batch, Client, IdTaken, JobUnknown, State, contract
from producer.contract import ErrorCode, ItemResult
from producer.ledger import Leases, Ledger
from producer.ledger.aborts import JobAborter
from producer.ledger.requeue import retry_items

from .jobs import KEYS

#: Steps of each order after the first submission, and of the random walk.
STEPS, WALK_STEPS = 3, 200
ENDED: Final = {State.DONE, State.FAILED, State.CANCELLED}
ITEM: Final = {"image": "https://x/1.jpg", "custom_id": "one"}


@dataclass
class World:
    """One job id, in a job or in a batch of two chunks, and a consumer that may run it."""

    client: Client
    connection: redis.Redis
    in_batch: bool
    leases: Leases = field(init=False)
    ledger: Ledger = field(init=False)
    #: The generation that the consumer runs.
    running: str | None = None

    def __post_init__(self) -> None:
        self.leases, self.ledger = Leases(self.connection), Ledger(self.connection)

    @property
    def id(self) -> str:
        return "b:0" if self.in_batch else "j"

    @property
    def batch(self) -> Batch:
        return self.client.batch("b")

    def submit(self) -> None:
        try:
            if self.in_batch:
                self.client.submit_batch([ITEM] * 2, batch_id="b", chunk_items=1, deadline_s=3600)
            else:
                self.client.submit(ITEM, job_id="j", deadline_s=3600)
        except IdTaken:
            assert self.in_batch

    def cancel(self) -> None:
        if not self.in_batch:
            self.client.job("j").cancel()
        elif self.exists():
            self.batch.cancel()

    def claim(self) -> None:
        (record,) = self.ledger.records([self.id])
        if record is not None and self.leases.claim(self.id, record.generation).run:
            self.running = record.generation

    def finish(self) -> None:
        self.end([{"text": "x", "custom_id": "one"}])

    def fail(self) -> None:
        self.end([contract.failure("internal", "x")])

    def end(self, results: list[ItemResult]) -> None:
        """Finish as the result backend does."""
        if self.running is None:
            return
        stored = json.dumps({"status": "SUCCESS", "result": results, "task_id": self.id})
        failed = sum("error" in result for result in results)
        self.leases.finish(self.id, stored, failed, generation=self.running, dead=failed > 0)
        self.running = None

    def delete(self) -> None:
        if not self.in_batch:
            self.ledger.delete_jobs(["j"])
        elif self.exists():
            self.batch.delete()

    def retry(self) -> None:
        if not self.in_batch:
            retry_items(self.ledger, ["j"], lambda result: "error" in result)
        elif self.exists():
            self.batch.retry_failed()

    def deadline(self) -> None:
        """Let all deadlines pass."""
        task_ids: Any = self.connection.zrange(KEYS.deadlines, 0, -1)
        for task_id in task_ids:
            self.connection.zadd(KEYS.deadlines, {task_id: 1})
        JobAborter(self.connection, KEYS).expire_due()

    def exists(self) -> bool:
        try:
            self.batch.progress()
        except JobUnknown:
            return False
        return True

    def state(self) -> State:
        return self.ledger.snapshot(self.id)[0]

    def check(self, step: str, before: State) -> None:
        """Check all invariants after a step."""
        state, result, _ = self.ledger.snapshot(self.id)
        if before in ENDED and step not in ("retry", "delete"):
            assert state is before, f"{step}: {before} became {state}"
        if before is State.UNKNOWN and step != "submit":
            assert state is State.UNKNOWN
        if step == "cancel":
            assert state in {State.UNKNOWN, *ENDED}
        assert (result is not None) == (state in ENDED)
        if result is not None and state is not State.FAILED:
            assert result.result(0)["custom_id"] == "one"
        opened: Any = self.connection.zrange(KEYS.open, 0, -1)
        assert (self.id.encode() in opened) == (state in {State.QUEUED, State.RUNNING})
        assert sum(map(int, self.connection.hvals(KEYS.depth))) == len(opened)
        assert set(self.connection.zrange(KEYS.deadlines, 0, -1)) <= set(opened)
        assert set(self.connection.hkeys(KEYS.attempts)) <= set(opened)
        assert set(self.connection.zrange(KEYS.running, 0, -1)) <= set(opened)
        if self.in_batch and self.exists():
            self.check_batch(step)

    def check_batch(self, step: str) -> None:
        progress = self.batch.progress()
        chunks = [self.ledger.snapshot(f"b:{n}") for n in range(2)]
        results = [result.result(0) for _, result, _ in chunks if result is not None]
        assert progress.done == len(results)
        assert progress.failed == sum("error" in result for result in results)
        if step == "cancel":
            assert progress.finished
            codes = [result.error and result.error.code for result in self.batch.results(0)]
            assert codes[1] in (None, ErrorCode.CANCELLED, ErrorCode.DEADLINE_EXCEEDED)


OPERATIONS: Final[dict[str, Callable[[World], None]]] = {
    "submit": World.submit,
    "cancel": World.cancel,
    "claim": World.claim,
    "finish": World.finish,
    "fail": World.fail,
    "delete": World.delete,
    "retry": World.retry,
    "deadline": World.deadline,
}


def orders(covering: bool) -> Iterator[tuple[str, ...]]:
    """Yield all orders, or an eighth of them with each two operations at each two of the steps."""
    for numbers in product(range(len(OPERATIONS)), repeat=STEPS):
        if not covering or sum(numbers) % len(OPERATIONS) == 0:
            yield tuple([*OPERATIONS][number] for number in numbers)


@pytest.mark.parametrize(
    "covering", [True, pytest.param(False, marks=pytest.mark.exhaustive)], ids=["pairs", "all"]
)
@pytest.mark.parametrize("in_batch", [False, True], ids=["job", "batch"])
def test_in_every_order_of_operations_a_state_changes_only_forward(
    client: Client, connection: redis.Redis, in_batch: bool, covering: bool
) -> None:
    for order in orders(covering):
        connection.flushdb()
        perform(World(client, connection, in_batch), ("submit", *order))


def test_a_random_walk_of_a_job_and_a_batch_keeps_the_invariants(
    client: Client, connection: redis.Redis
) -> None:
    rng = Random(7)
    for in_batch in (False, True):
        connection.flushdb()
        steps = rng.choices([*OPERATIONS], k=WALK_STEPS)
        perform(World(client, connection, in_batch), tuple(steps))


def perform(world: World, order: tuple[str, ...]) -> None:
    for number, step in enumerate(order):
        before = world.state()
        OPERATIONS[step](world)
        try:
            world.check(step, before)
        except AssertionError as error:
            steps = " ".join(order[max(0, number - 9) : number + 1])
            raise AssertionError(f"{steps}: {error}") from error


def test_cancelling_an_unknown_id_leaves_no_key(client: Client, connection: redis.Redis) -> None:
    client.job("mine").cancel()
    Ledger(connection).cancel("mine:3")
    assert connection.keys("*") == []
