"""Server-sent events: each result exactly once, also for clients that reconnect."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import redis

from producer import Client
from tests.conftest import Finish

from .conftest import Reached, Run, Start
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


def test_a_stream_has_results_progress_and_an_end(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "whole", 80)
    with listening(http, "whole") as events:
        seen = [next(events)]
        assert (seen[0].name, seen[0].id, seen[0].data["status"]) == ("progress", None, "queued")
        for number, count in ((2, 16), (0, 48), (1, 80)):
            end(finish, "whole", number, 80)
            while len(indexes(seen)) < count:
                seen.append(next(events))
        seen += events
    assert indexes(seen) == [*range(64, 80), *range(64)]
    results = [event for event in seen if event.name == "result"]
    assert [event.id for event in results] == [str(event.data["cursor"]) for event in results]
    assert results[0].data["text"] == "text 64"
    last = seen[-1]
    assert (last.name, last.data["status"]) == ("end", "done")
    assert re.fullmatch("[0-9]+-end", last.id or "")
    assert last.data == http.get("/v1/batches/whole").json() | {"rate": last.data["rate"]}
    assert [event.name for event in seen].count("end") == 1


def test_results_can_be_omitted_from_a_stream(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "alone", 40)
    with listening(http, "alone", query="?results=false") as events:
        seen = [next(events)]
        end(finish, "alone", 0, 40)
        end(finish, "alone", 1, 40)
        seen += events
    assert {event.name for event in seen} == {"progress", "end"}
    assert seen[-1].data["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


def test_a_client_that_reconnects_elsewhere_receives_each_result_once(
    start_gateway: Start, run_gateway: Run, finish: Finish
) -> None:
    total, batch = 10 * CHUNK, "resumed"
    gateways = [start_gateway().client(), run_gateway().client()]
    submit(gateways[0], batch, total)
    order = [3, 1, 9, 0, 2, 8, 4, 7, 5, 6]

    def end_all() -> None:
        for number in order:
            end(finish, batch, number, total)

    running = threading.Thread(target=end_all)
    seen: list[Event] = []
    after, connections = None, 0
    running.start()
    while not seen or seen[-1].name != "end":
        # Disconnect after some results, within a chunk, and continue at the other process.
        with listening(gateways[connections % 2], batch, after) as events:
            count = 0
            for event in events:
                seen.append(event)
                if event.id is not None:
                    after, count = event.id, count + 1
                if count == 37:
                    break
        connections += 1
    running.join()
    assert connections > 5
    expected = [n for number in order for n in range(number * CHUNK, (number + 1) * CHUNK)]
    assert indexes(seen) == expected


def test_a_stream_continues_after_a_cursor(gateway: Reached, finish: Finish) -> None:
    http = gateway.client()
    submit(http, "cursor", 40)
    end(finish, "cursor", 0, 40)
    end(finish, "cursor", 1, 40)
    with listening(http, "cursor", query="?cursor=30") as events:
        assert indexes(list(events)) == [*range(30, 40)]
    # Last-Event-ID takes precedence.
    with listening(http, "cursor", "39", query="?cursor=30") as events:
        assert indexes(list(events)) == [39]
    with listening(http, "cursor", "40") as events:
        assert [event.name for event in events] == ["progress", "end"]


@pytest.mark.parametrize("query", ["", "?results=false"])
def test_a_client_that_reconnects_after_the_end_is_told_to_stop(
    gateway: Reached, finish: Finish, client: Client, query: str
) -> None:
    http, batch = gateway.client(), f"again{len(query)}"
    submit(http, batch, 40)
    end(finish, batch, 0, 40)
    finish(f"acme.batch.{batch}:1", [{"error": {"code": "internal", "message": "x"}}] * 8)
    with listening(http, batch, query=query) as events:
        *_, last = events
    url = f"/v1/batches/{batch}/events{query}"
    for _ in range(2):
        answer = http.get(url, headers={"Last-Event-ID": last.id or ""})
        assert (answer.status_code, answer.content) == (204, b"")
    # A client that has not received the end gets it, and so does one that waits for a retry.
    with listening(http, batch, "40", query=query) as events:
        assert [event.name for event in events] == ["progress", "end"]
    client.batch(f"acme.batch.{batch}").retry_failed()
    with listening(http, batch, last.id, query=query) as events:
        assert next(events).data["status"] == "running"
        end(finish, batch, 1, 40)
        assert [*events][-1].name == "end"
    # A client that was away during the retry gets its results.
    answer = http.get(url, headers={"Last-Event-ID": last.id or ""})
    assert (answer.status_code == 204) == bool(query)


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 40, "end", "-end", "1-ends"])
def test_an_invalid_event_id_is_rejected(gateway: Reached, after: str) -> None:
    http = gateway.client()
    submit(http, "never", 1)
    answer = http.get("/v1/batches/never/events", headers={"Last-Event-ID": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")


@pytest.mark.parametrize(
    ("method", "status"), [("DELETE", "deleted"), ("POST", "cancelled")], ids=["delete", "cancel"]
)
def test_a_deleted_or_cancelled_batch_ends_its_streams(
    gateway: Reached, finish: Finish, method: str, status: str
) -> None:
    http = gateway.client()
    submit(http, status, 80)
    end(finish, status, 0, 80)
    path = f"/v1/batches/{status}" + ("/cancel" if method == "POST" else "")
    with listening(http, status) as events:
        seen = [next(events) for _ in range(CHUNK)]
        assert http.request(method, path).is_success
        seen += events
    assert (seen[-1].name, seen[-1].data["status"]) == ("end", status)
    # The items of a cancelled batch end as well.
    assert sorted(indexes(seen)) == [*range(80 if status == "cancelled" else CHUNK)]


def test_streams_of_a_batch_share_their_reads_of_redis(
    gateway: Reached, finish: Finish, connection: redis.Redis
) -> None:
    listeners, total = 24, 8 * CHUNK
    http = gateway.client()
    submit(http, "many", total)
    barrier = threading.Barrier(listeners + 1)
    received: list[list[int]] = []

    def listen() -> None:
        headers = gateway.headers("acme")
        with (
            httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client,
            listening(client, "many") as events,
        ):
            seen = [next(events)]
            for number in range(8):
                barrier.wait(30)
                while len(indexes(seen)) < (number + 1) * CHUNK:
                    seen.append(next(events))
            seen += events
            received.append(indexes(seen))

    threads = [threading.Thread(target=listen) for _ in range(listeners)]
    for thread in threads:
        thread.start()
    for number in range(8):
        barrier.wait(30)
        if number == 0:
            connection.config_resetstat()
        end(finish, "many", number, total)
    for thread in threads:
        thread.join()
    assert received == [[*range(total)]] * listeners
    # Without sharing, each stream would read each of the eight chunks.
    reads = connection.info("commandstats")["cmdstat_mget"]["calls"]
    assert reads < listeners * 8 / 2


def test_an_unread_stream_occupies_no_memory(start_gateway: Start, finish: Finish) -> None:
    gateway = start_gateway()
    http = gateway.client()
    total = 64 * CHUNK
    submit(http, "slow", total)
    for number in range(64):
        finish(f"acme.batch.slow:{number}", [{"text": "word " * 2000} for _ in range(CHUNK)])
    http.get("/v1/batches/slow/results?limit=1000")
    before = resident_mb(gateway.process.pid)
    # Each would have 20 MB if it were read.
    streams = [http.stream("GET", "/v1/batches/slow/events") for _ in range(20)]
    try:
        for stream in streams:
            stream.__enter__()
        # They do not delay other streams.
        with listening(gateway.client(), "slow") as events:
            assert len(indexes(list(events))) == total
        assert resident_mb(gateway.process.pid, peak=True) < before + 150
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


def test_streams_end_at_shutdown(start_gateway: Start, finish: Finish) -> None:
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
    # The batch has not ended, so there is no `end`: the client continues elsewhere.
    assert (indexes(seen), len(read)) == ([*range(CHUNK)], CHUNK)
    assert "Traceback" not in gateway.output()
    assert "Cancel" not in gateway.output()
    assert "result stream aborted: the gateway is shutting down" in gateway.output()
    assert "end" not in [event.name for event in seen]
    assert gateway.process.wait(30) == 0


def test_open_streams_are_counted(gateway: Reached, finish: Finish) -> None:
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
