"""Server-sent events: each result once, whoever listens, however often the connection breaks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import redis

from tests.conftest import Finish

from .conftest import Reached, Start
from .samples import (
    CHUNK,
    JSONL,
    Event,
    answers_of,
    body_of,
    events_of,
    resident_mb,
)


def submit(http: httpx.Client, batch: str, count: int) -> None:
    answer = http.post(f"/v1/batches?id={batch}", content=body_of(count), headers=JSONL)
    assert answer.status_code == 202, answer.text


def end(finish: Finish, batch: str, number: int, total: int) -> None:
    finish(f"acme.batch.{batch}:{number}", answers_of(number, total))


@contextmanager
def listening(
    http: httpx.Client, batch: str, after: str | None = None, query: str = ""
) -> Iterator[Iterator[Event]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with http.stream("GET", f"/v1/batches/{batch}/events{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_of(answer)


def indexes(events: list[Event]) -> list[int]:
    return [event.data["index"] for event in events if event.name == "result"]


def test_a_stream_tells_results_progress_and_the_end(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "told", 80)
    with listening(http, "told") as events:
        seen = [next(events)]
        assert (seen[0].name, seen[0].id, seen[0].data["status"]) == ("progress", None, "queued")
        for number, results in ((2, 16), (0, 48), (1, 80)):
            end(finish, "told", number, 80)
            while len(indexes(seen)) < results:
                seen.append(next(events))
        seen += events
    assert indexes(seen) == [*range(64, 80), *range(64)]
    told = [event for event in seen if event.name == "result"]
    assert [event.id for event in told] == [str(event.data["cursor"]) for event in told]
    assert told[0].data["text"] == "text 64"
    last = seen[-1]
    assert (last.name, last.id, last.data["status"]) == ("end", None, "done")
    assert last.data == http.get("/v1/batches/told").json() | {"rate": last.data["rate"]}
    assert [event.name for event in seen].count("end") == 1


def test_progress_alone_has_no_results(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "alone", 40)
    with listening(http, "alone", query="?results=false") as events:
        seen = [next(events)]
        end(finish, "alone", 0, 40)
        end(finish, "alone", 1, 40)
        seen += events
    assert {event.name for event in seen} == {"progress", "end"}
    assert seen[-1].data["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


def test_whoever_connects_again_elsewhere_gets_each_result_once(
    start_gateway: Start, finish: Finish
) -> None:
    total, batch = 10 * CHUNK, "resumed"
    gateways = [start_gateway().client(), start_gateway().client()]
    submit(gateways[0], batch, total)
    order = [3, 1, 9, 0, 2, 8, 4, 7, 5, 6]
    running = threading.Thread(
        target=lambda: [end(finish, batch, number, total) for number in order]
    )
    seen: list[Event] = []
    after, turn = None, 0
    running.start()
    while not seen or seen[-1].name != "end":
        # Break off after some results, wherever that is in a chunk, and go to the other process.
        with listening(gateways[turn % 2], batch, after) as events:
            some = 0
            for event in events:
                seen.append(event)
                if event.id is not None:
                    after, some = event.id, some + 1
                if some == 37:
                    break
        turn += 1
    running.join()
    assert turn > 5
    expected = [n for number in order for n in range(number * CHUNK, (number + 1) * CHUNK)]
    assert indexes(seen) == expected


def test_a_page_may_say_where_to_go_on(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "cursor", 40)
    end(finish, "cursor", 0, 40)
    end(finish, "cursor", 1, 40)
    with listening(http, "cursor", query="?cursor=30") as events:
        assert indexes(list(events)) == [*range(30, 40)]
    # What was received last counts.
    with listening(http, "cursor", "39", query="?cursor=30") as events:
        assert indexes(list(events)) == [39]
    with listening(http, "cursor", "40") as events:
        assert [event.name for event in events] == ["progress", "end"]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 40])
def test_an_event_that_never_was_is_refused(gateway: Reached, after: str) -> None:
    http = gateway.client()
    submit(http, "never", 1)
    answer = http.get("/v1/batches/never/events", headers={"Last-Event-ID": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")


@pytest.mark.parametrize(
    ("what", "status"), [("DELETE", "deleted"), ("POST", "cancelled")], ids=["delete", "cancel"]
)
def test_what_ends_meanwhile_is_told(
    gateway: Reached, finish: Finish, what: str, status: str
) -> None:
    http = gateway.client()
    submit(http, status, 80)
    end(finish, status, 0, 80)
    path = f"/v1/batches/{status}" + ("/cancel" if what == "POST" else "")
    with listening(http, status) as events:
        seen = [next(events) for _ in range(CHUNK)]
        assert http.request(what, path).is_success
        seen += events
    assert (seen[-1].name, seen[-1].data["status"]) == ("end", status)
    assert indexes(seen) == [*range(CHUNK)]


def test_many_streams_of_a_batch_ask_redis_as_one(
    gateway: Reached, finish: Finish, connection: redis.Redis
) -> None:
    listeners, total = 24, 8 * CHUNK
    http = gateway.client()
    submit(http, "many", total)
    everybody = threading.Barrier(listeners + 1)
    heard: list[list[int]] = []

    def listen() -> None:
        with (
            httpx.Client(base_url=gateway.url, headers=gateway.headers("acme"), timeout=60) as mine,
            listening(mine, "many") as events,
        ):
            seen = [next(events)]
            for number in range(8):
                everybody.wait(30)
                while len(indexes(seen)) < (number + 1) * CHUNK:
                    seen.append(next(events))
            seen += events
            heard.append(indexes(seen))

    threads = [threading.Thread(target=listen) for _ in range(listeners)]
    for thread in threads:
        thread.start()
    for number in range(8):
        everybody.wait(30)
        if number == 0:
            connection.config_resetstat()
        end(finish, "many", number, total)
    for thread in threads:
        thread.join()
    assert heard == [[*range(total)]] * listeners
    # Each of them by itself would have read each of the eight chunks.
    reads = connection.info("commandstats")["cmdstat_mget"]["calls"]
    assert reads < listeners * 8 / 2


def test_a_stream_that_is_not_read_holds_no_memory(start_gateway: Start, finish: Finish) -> None:
    gateway = start_gateway()
    http = gateway.client()
    total = 64 * CHUNK
    submit(http, "slow", total)
    for number in range(64):
        finish(f"acme.batch.slow:{number}", [{"text": "word " * 2000} for _ in range(CHUNK)])
    http.get("/v1/batches/slow/results?limit=1000")
    before = resident_mb(gateway.process.pid)
    # 20 MB each, if they were read.
    held = [http.stream("GET", "/v1/batches/slow/events") for _ in range(20)]
    try:
        for stream in held:
            stream.__enter__()
        # Neighbours are not held up by them.
        with listening(gateway.client(), "slow") as events:
            assert len(indexes(list(events))) == total
        assert resident_mb(gateway.process.pid, most=True) < before + 150
    finally:
        for stream in held:
            stream.__exit__(None, None, None)


def test_streams_end_with_the_process(start_gateway: Start, finish: Finish) -> None:
    gateway = start_gateway()
    http = gateway.client()
    submit(http, "stopped", 80)
    end(finish, "stopped", 0, 80)
    with (
        listening(http, "stopped") as events,
        http.stream("GET", "/v1/batches/stopped/results?wait=true") as results,
    ):
        lines = results.iter_lines()
        seen = [next(events) for _ in range(CHUNK)]
        read = [next(lines) for _ in range(CHUNK)]
        gateway.process.send_signal(signal.SIGTERM)
        seen += events
        with pytest.raises(httpx.RemoteProtocolError):
            read += lines
    # It has not ended, and nobody says so: the client goes on elsewhere.
    assert (indexes(seen), len(read)) == ([*range(CHUNK)], CHUNK)
    assert "Traceback" not in gateway.output()
    assert "results were broken off: this process is to end" in gateway.output()
    assert "end" not in [event.name for event in seen]
    assert gateway.process.wait(30) == 0


def test_streams_are_counted_and_leave_nothing(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "counted", 40)

    def streams() -> str:
        (line,) = [
            line
            for line in http.get("/metrics").text.splitlines()
            if line.startswith("blipline_gateway_streams ")
        ]
        return line.split()[1]

    with listening(http, "counted") as events:
        next(events)
        assert streams() == "1.0"
    while streams() != "0.0":
        pass
