"""Dead letters, from the client and from the shell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis

from producer import Client, ClientSettings, DeadLetter, JobUnknown, State, contract
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.client.dead_letters import PAGE_LETTERS
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger

Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]

URL = "https://images.example.com/cat.jpg"
POISONED = contract.failure("poisoned", "3 engines died")
INTERNAL = contract.failure("internal", "KeyError: x")
BROKEN = contract.failure("image_invalid", "no image")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """Let every command use this Redis."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)


@pytest.fixture
def dead_jobs(client: Client, finish: Finish) -> Callable[..., list[str]]:
    """Return a function that creates dead jobs; it returns their ids, the oldest first."""

    def create(count: int) -> list[str]:
        jobs = [client.caption(f"https://images.example.com/{n}.jpg").id for n in range(count)]
        for job_id in jobs:
            finish(job_id, [POISONED])
        return jobs

    return create


@pytest.fixture
def batch_id(client: Client, finish: Finish) -> str:
    """The id of a batch of two chunks; the second has a good item, an invalid and two dead ones."""
    items = ({"image": URL, "custom_id": str(n)} for n in range(8))
    batch = client.submit_batch(items, chunk_items=4)
    finish(f"{batch.id}:0", [{"text": "a"}] * 4)
    finish(f"{batch.id}:1", [{"text": "a"}, POISONED, BROKEN, INTERNAL])
    return batch.id


def ids(client: Client) -> list[str]:
    return [letter.id for letter in client.dead]


def payload_of(connection: redis.Redis, job_id: str) -> dict[str, Any]:
    (record,) = Ledger(connection).records([job_id])
    assert record is not None
    payload: dict[str, Any] = json.loads(record.payload)
    return payload


def test_a_dead_letter_has_the_dead_items_and_their_errors(client: Client, batch_id: str) -> None:
    (letter,) = client.dead
    assert (letter.id, letter.batch, letter.items) == (f"{batch_id}:1", batch_id, 4)
    assert (letter.task, letter.queue) == ("caption", "bulk")
    assert letter.codes == ["internal", "poisoned"]
    first, second = letter.died
    assert (first.index, first.code, first.message) == (5, "poisoned", "3 engines died")
    assert first.item == {"image": URL, "custom_id": "5"}
    assert (second.index, second.item["custom_id"], second.code) == (7, "7", "internal")


def test_a_dead_single_job_has_no_batch(
    client: Client, dead_jobs: Callable[..., list[str]]
) -> None:
    (job_id,) = dead_jobs(1)
    letter = client.dead.get(job_id)
    assert (letter.batch, letter.queue, letter.items) == (None, "interactive", 1)
    assert [item.index for item in letter.died] == [0]


def test_an_invalid_item_makes_no_dead_letter(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    finish(client.caption(URL).id, [BROKEN])
    assert not connection.exists(Keys().dead)
    assert ids(client) == []


def test_dead_letters_come_newest_first(
    client: Client, dead_jobs: Callable[..., list[str]]
) -> None:
    jobs = dead_jobs(2 * PAGE_LETTERS + 3)
    assert ids(client) == jobs[::-1]
    times = [letter.at for letter in client.dead]
    assert times == sorted(times, reverse=True)


def test_dead_letters_of_one_moment_are_read_once_each(
    client: Client, dead_jobs: Callable[..., list[str]], connection: redis.Redis
) -> None:
    jobs = dead_jobs(3 * PAGE_LETTERS)
    connection.zadd(Keys().dead, dict.fromkeys(jobs[3:-3], 1234.5))
    met = ids(client)
    assert sorted(met) == sorted(jobs)
    # Letters that are removed before the next page change nothing.
    purged = [client.dead.purge(letter.id) for letter in client.dead]
    assert len(purged) == len(jobs)


def test_iteration_ends_although_retried_letters_die_again(
    client: Client, dead_jobs: Callable[..., list[str]], finish: Finish
) -> None:
    jobs = dead_jobs(PAGE_LETTERS + 1)
    met = 0
    for letter in client.dead:
        assert client.dead.retry(letter.id) == 1
        finish(letter.id, [POISONED])
        met += 1
    assert met == len(jobs) == len(ids(client))


def test_an_expired_letter_is_skipped_and_removed(
    client: Client, dead_jobs: Callable[..., list[str]], connection: redis.Redis
) -> None:
    old, new = dead_jobs(2)
    connection.delete(Keys().record(old), Keys().result(old))
    assert ids(client) == [new]
    assert connection.zrange(Keys().dead, 0, -1) == [new.encode()]
    connection.zadd(Keys().dead, {old: 1.0})
    with pytest.raises(JobUnknown, match=old):
        client.dead.get(old)


def test_only_dead_items_are_retried(
    client: Client, batch_id: str, finish: Finish, connection: redis.Redis
) -> None:
    job_id = f"{batch_id}:1"
    assert client.dead.retry([job_id]) == 2
    assert ids(client) == []
    progress = client.batch(batch_id).progress()
    assert (progress.done, progress.failed, progress.finished) == (4, 0, False)
    earlier = [item.get("result") for item in payload_of(connection, job_id)["items"]]
    assert earlier == [{"text": "a"}, None, BROKEN, None]
    # A retried item may die again; its letter has the item without its earlier result.
    finish(job_id, [{"text": "a"}, POISONED, BROKEN, {"text": "b"}])
    (letter,) = client.dead
    assert [(item.index, item.item) for item in letter.died] == [
        (5, {"image": URL, "custom_id": "5"})
    ]
    progress = client.batch(batch_id).progress()
    assert (progress.done, progress.failed) == (8, 2)


def test_all_dead_letters_are_retried(
    client: Client, dead_jobs: Callable[..., list[str]], batch_id: str, finish: Finish
) -> None:
    jobs = dead_jobs(PAGE_LETTERS + 1)
    assert client.dead.retry() == len(jobs) + 2
    assert ids(client) == []
    assert client.job(jobs[0]).status() is State.QUEUED
    finish(jobs[0], [{"text": "a cat"}])
    assert client.job(jobs[0]).result(timeout=5) == "a cat"


def test_purged_letters_keep_their_results(
    client: Client, dead_jobs: Callable[..., list[str]]
) -> None:
    jobs = dead_jobs(4)
    assert client.dead.purge(jobs[0]) == 1
    assert ids(client) == jobs[:0:-1]
    assert client.dead.purge([jobs[1], jobs[1]]) == 1
    assert client.dead.purge([]) == client.dead.retry([]) == 0
    assert client.dead.purge() == 2
    assert ids(client) == []
    assert client.dead.purge() == client.dead.retry() == 0
    assert {client.job(job_id).status() for job_id in jobs} == {State.FAILED}


@pytest.mark.parametrize("verb", ["retry", "purge"])
def test_an_unknown_id_changes_nothing_for_the_others(
    verb: str, client: Client, dead_jobs: Callable[..., list[str]]
) -> None:
    jobs = dead_jobs(2)
    with pytest.raises(JobUnknown, match="no dead letter nobody"):
        getattr(client.dead, verb)([jobs[0], "nobody", jobs[1]])
    assert ids(client) == jobs[::-1]


def test_deployments_that_share_a_redis_have_separate_dead_letters(
    client: Client, dead_jobs: Callable[..., list[str]], redis_url: str, connection: redis.Redis
) -> None:
    dead_jobs(1)
    settings = ClientSettings(redis_url=redis_url, key_prefix="other:")
    with Client(settings=settings) as another:
        job_id = another.caption(URL).id
        stored = json.dumps({"status": "SUCCESS", "result": [POISONED]})
        Leases(connection, Keys("other:")).finish(job_id, stored, 1, dead=True)
        assert ids(another) == [job_id]
        assert another.dead.retry() == 1
    assert len(ids(client)) == 1


def test_every_item_of_a_job_that_celery_failed_is_dead(
    client: Client, connection: redis.Redis
) -> None:
    batch = client.submit_batch([URL, URL])
    result = {"exc_type": "NotRegistered", "exc_message": "blipline.caption"}
    stored = json.dumps({"status": "FAILURE", "result": result})
    Leases(connection).finish(f"{batch.id}:0", stored, -1, dead=True)
    (letter,) = client.dead
    assert [item.code for item in letter.died] == ["internal", "internal"]
    assert client.dead.retry(letter.id) == 2


def test_the_list_has_a_line_for_each_letter(
    client: Client,
    dead_jobs: Callable[..., list[str]],
    batch_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (job_id,) = dead_jobs(1)
    assert run(["dead", "list"]) == Exit.OK
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert first[0] == job_id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first[1])
    assert first[2:] == ["caption", "poisoned", "1 of 1", "https://images.example.com/0.jpg"]
    assert (second[0], second[3], second[4]) == (f"{batch_id}:1", "internal,poisoned", "2 of 4")
    assert run(["dead", "list", "--json"]) == Exit.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [letter.to_json() for letter in client.dead]


def test_an_empty_list_prints_its_note_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead", "list"]) == Exit.OK
    assert capsys.readouterr() == ("", "blipline: no dead letters\n")


def test_show_prints_every_dead_item(
    client: Client, batch_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", "show", f"{batch_id}:1"]) == Exit.OK
    out = capsys.readouterr().out
    assert f"batch  {batch_id}\nitems  2 of 4 died\n" in out
    item = json.dumps({"image": URL, "custom_id": "5"})
    assert f"\n5: 3 engines died (poisoned)\n  {item}\n\n7: KeyError: x (internal)\n" in out
    assert "no image" not in out
    assert run(["dead", "show", f"{batch_id}:1", "--json"]) == Exit.OK
    (line,) = capsys.readouterr().out.splitlines()
    letter: DeadLetter = client.dead.get(f"{batch_id}:1")
    assert (
        json.loads(line)
        == letter.to_json()
        == {
            "id": f"{batch_id}:1",
            "at": letter.at,
            "task": "caption",
            "queue": "bulk",
            "batch": batch_id,
            "items": 4,
            "died": [
                {"index": 5, "item": {"image": URL, "custom_id": "5"}, **POISONED},
                {"index": 7, "item": {"image": URL, "custom_id": "7"}, **INTERNAL},
            ],
        }
    )


def test_retry_and_purge_print_their_counts(
    client: Client,
    dead_jobs: Callable[..., list[str]],
    batch_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = dead_jobs(4)
    for command, output in (
        (["retry", jobs[0], f"{batch_id}:1"], "3\n"),
        (["retry", "--json", jobs[1]], '{"items": 1}\n'),
        (["purge", jobs[2]], "1\n"),
        (["purge", "--all", "--json"], '{"letters": 1}\n'),
        (["retry", "--all"], "0\n"),
    ):
        assert run(["dead", *command]) == Exit.OK
        assert capsys.readouterr() == (output, "")
    assert ids(client) == []
    assert [client.job(job_id).status().value for job_id in jobs] == [
        "queued",
        "queued",
        "failed",
        "failed",
    ]


@pytest.mark.parametrize("verb", ["show", "retry", "purge"])
def test_an_unknown_letter_id_is_invalid_input(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", verb, "nobody"]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, "no dead letter nobody" in err) == ("", True)


@pytest.mark.parametrize("verb", ["retry", "purge"])
@pytest.mark.parametrize("chosen", [(), ("0198c0de", "--all")])
def test_all_letters_need_an_explicit_option(
    verb: str,
    chosen: tuple[str, ...],
    client: Client,
    dead_jobs: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead_jobs(1)
    assert run(["dead", verb, *chosen]) == Exit.USAGE
    assert "--all" in capsys.readouterr().err
    assert len(ids(client)) == 1
