"""Admission: nothing here needs a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import pytest

from worker.engine.scheduler import Scheduler

numbers = count()


@dataclass
class Ask:
    name: str
    interactive: bool = False
    pending_image: str | None = None
    number: int = field(default_factory=lambda: next(numbers))


def names(rows: list[Ask]) -> str:
    return "".join(row.name for row in rows)


def fill(scheduler: Scheduler[Ask], bulk: str = "", interactive: str = "") -> None:
    for name in bulk:
        scheduler.add(Ask(name))
    for name in interactive:
        scheduler.add(Ask(name, interactive=True))


def test_an_idle_engine_admits_at_once() -> None:
    scheduler = Scheduler[Ask](max_rows=4, prefill_steps=100)
    fill(scheduler, bulk="a")
    assert names(scheduler.admit(active=0, active_bulk=0)) == "a"
    assert len(scheduler) == 0


def test_interactive_comes_first_and_then_the_oldest() -> None:
    scheduler = Scheduler[Ask](max_rows=4)
    fill(scheduler, bulk="abc", interactive="xy")
    assert names(scheduler.admit(0, 0)) == "xyab"
    assert names(scheduler.admit(0, 0)) == "c"


def test_never_more_than_the_free_rows_are_admitted() -> None:
    scheduler = Scheduler[Ask](max_rows=4, prefill_steps=0)
    fill(scheduler, bulk="abc", interactive="xyz")
    assert names(scheduler.admit(active=2, active_bulk=2)) == "xy"
    assert scheduler.admit(active=4, active_bulk=2) == []


def test_bulk_leaves_the_reserved_rows_to_interactive() -> None:
    scheduler = Scheduler[Ask](max_rows=4, reserved_rows=2, prefill_steps=0)
    fill(scheduler, bulk="abc")
    assert names(scheduler.admit(0, 0)) == "ab"
    assert scheduler.admit(active=2, active_bulk=2) == []
    fill(scheduler, interactive="xyz")
    assert names(scheduler.admit(active=2, active_bulk=2)) == "xy"


def test_bulk_may_use_its_share_while_interactive_rows_hold_the_reserved_ones() -> None:
    scheduler = Scheduler[Ask](max_rows=4, reserved_rows=2, prefill_steps=0)
    fill(scheduler, bulk="abc")
    assert names(scheduler.admit(active=2, active_bulk=0)) == "ab"


def test_bulk_waits_until_its_waiting_has_cost_as_much_as_a_prefill() -> None:
    # Given 6 active rows and a prefill of 2 steps: admitting costs 12 row-steps.
    scheduler = Scheduler[Ask](max_rows=9, prefill_steps=2.0)
    fill(scheduler, bulk="abc")
    # When 3 rows wait, then 3, 6, 9 and 12 row-steps have gone by after as many steps.
    assert [names(scheduler.admit(6, 6)) for _ in range(4)] == ["", "", "", "abc"]


def test_waiting_is_counted_anew_after_each_admission() -> None:
    scheduler = Scheduler[Ask](max_rows=4, prefill_steps=1.0)
    fill(scheduler, bulk="a")
    assert [names(scheduler.admit(2, 2)) for _ in range(2)] == ["", "a"]
    fill(scheduler, bulk="b")
    assert [names(scheduler.admit(2, 2)) for _ in range(2)] == ["", "b"]


def test_rows_that_find_no_slot_do_not_count_as_waiting() -> None:
    scheduler = Scheduler[Ask](max_rows=3, prefill_steps=1.0)
    fill(scheduler, bulk="ab")
    for _ in range(50):
        assert scheduler.admit(active=3, active_bulk=3) == []
    assert scheduler.admit(active=2, active_bulk=2) == []


def test_an_interactive_request_is_admitted_at_once_and_takes_bulk_with_it() -> None:
    scheduler = Scheduler[Ask](max_rows=8, prefill_steps=100)
    fill(scheduler, bulk="a")
    assert scheduler.admit(active=5, active_bulk=5) == []
    fill(scheduler, interactive="x")
    assert names(scheduler.admit(active=5, active_bulk=5)) == "xa"


def test_a_removed_row_is_not_admitted() -> None:
    scheduler = Scheduler[Ask](max_rows=4)
    fill(scheduler, bulk="a", interactive="x")
    row = Ask("b")
    scheduler.add(row)
    assert scheduler.remove(row)
    assert not scheduler.remove(row)
    assert names(scheduler.admit(0, 0)) == "xa"


def test_a_bulk_row_that_somebody_waits_for_overtakes_the_others() -> None:
    scheduler = Scheduler[Ask](max_rows=1, prefill_steps=0)
    fill(scheduler, bulk="ab")
    row = Ask("c")
    scheduler.add(row)
    row.interactive = True
    scheduler.promote(row)
    assert scheduler.has_interactive
    assert [names(scheduler.admit(0, 0)) for _ in range(3)] == ["c", "a", "b"]


def test_a_row_that_does_not_wait_here_cannot_be_promoted() -> None:
    scheduler = Scheduler[Ask](max_rows=4)
    scheduler.promote(Ask("a"))
    assert len(scheduler) == 0


def test_no_more_images_are_encoded_in_one_step_than_the_others_can_wait_for() -> None:
    scheduler = Scheduler[Ask](max_rows=8, prefill_steps=0)
    scheduler.max_images = 2
    for name, image in (("a", "1"), ("b", "2"), ("c", "3"), ("d", None), ("e", "2"), ("f", "4")):
        scheduler.add(Ask(name, pending_image=image))
    fill(scheduler, interactive="x")
    # Those whose image is known, or is encoded for another anyway, need not wait.
    assert [names(scheduler.admit(0, 0)) for _ in range(3)] == ["xabde", "cf", ""]


@pytest.mark.parametrize("reserved_rows", [-1, 4, 5])
def test_reserved_rows_must_leave_room_for_bulk(reserved_rows: int) -> None:
    with pytest.raises(ValueError, match="reserved_rows"):
        Scheduler(max_rows=4, reserved_rows=reserved_rows)
