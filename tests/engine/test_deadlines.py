from __future__ import annotations

from worker.engine.deadlines import Deadlines
from worker.engine.request import Request


def ask(name: str, deadline: float | None) -> Request:
    return Request(name, "caption", name, b"", deadline=deadline)


def names(requests: list[Request]) -> str:
    return "".join(str(request.id) for request in requests)


def test_requests_come_out_when_their_deadline_has_come_and_only_once() -> None:
    deadlines = Deadlines()
    for name, deadline in (("a", 30.0), ("b", 10.0), ("c", None), ("d", 20.0)):
        deadlines.add(ask(name, deadline))
    assert names(deadlines.pop(now=9.9)) == ""
    assert names(deadlines.pop(now=20.0)) == "bd"
    assert names(deadlines.pop(now=20.0)) == ""
    assert names(deadlines.pop(now=1e9)) == "a"


def test_equal_deadlines_come_in_the_order_of_arrival() -> None:
    deadlines = Deadlines()
    for name in "cab":
        deadlines.add(ask(name, 5.0))
    assert names(deadlines.pop(5.0)) == "cab"


def test_deadlines_of_requests_that_are_gone_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for number in range(1000):
        deadlines.add(ask(str(number), 1e9))
        deadlines.prune(live={str(number)}, count=1)
    assert len(deadlines) < 100
