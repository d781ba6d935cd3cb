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
from producer.dead_letters import PAGE_LETTERS
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
    """Every command uses this Redis."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)


@pytest.fixture
def buried(client: Client, finish: Finish) -> Callable[..., list[str]]:
    """Jobs that died, the oldest first; their ids."""

    def bury(count: int) -> list[str]:
        jobs = [client.caption(f"https://images.example.com/{n}.jpg").id for n in range(count)]
        for job_id in jobs:
            finish(job_id, [POISONED])
        return jobs

    return bury


@pytest.fixture
def batch_id(client: Client, finish: Finish) -> str:
    """A batch of two chunks of four; of the second one item is fine, one wrong, and two died."""
    items = ({"image": URL, "custom_id": str(n)} for n in range(8))
    batch = client.submit_batch(items, chunk_items=4)
    finish(f"{batch.id}:0", [{"text": "a"}] * 4)
    finish(f"{batch.id}:1", [{"text": "a"}, POISONED, BROKEN, INTERNAL])
    return batch.id


def ids(client: Client) -> list[str]:
    return [letter.id for letter in client.dead]


def asked(connection: redis.Redis, job_id: str) -> dict[str, Any]:
    (row,) = Ledger(connection).records([job_id])
    assert row is not None
    found: dict[str, Any] = json.loads(row.payload)
    return found


# The client


def test_a_letter_tells_what_died_and_of_what(client: Client, batch_id: str) -> None:
    (letter,) = client.dead
    assert (letter.id, letter.batch, letter.items) == (f"{batch_id}:1", batch_id, 4)
    assert (letter.task, letter.queue) == ("caption", "bulk")
    assert letter.codes == ["internal", "poisoned"]
    first, second = letter.died
    assert (first.index, first.code, first.message) == (5, "poisoned", "3 engines died")
    assert first.item == {"image": URL, "custom_id": "5"}
    assert (second.index, second.item["custom_id"], second.code) == (7, "7", "internal")


def test_a_job_of_its_own_is_in_no_batch(client: Client, buried: Callable[..., list[str]]) -> None:
    (job_id,) = buried(1)
    letter = client.dead.get(job_id)
    assert (letter.batch, letter.queue, letter.items) == (None, "interactive", 1)
    assert [one.index for one in letter.died] == [0]


def test_what_is_wrong_with_an_item_is_no_reason_for_a_letter(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    finish(client.caption(URL).id, [BROKEN])
    assert not connection.exists(Keys().dead)
    assert ids(client) == []


def test_letters_come_the_newest_first_whatever_their_number(
    client: Client, buried: Callable[..., list[str]]
) -> None:
    jobs = buried(2 * PAGE_LETTERS + 3)
    assert ids(client) == jobs[::-1]
    times = [letter.at for letter in client.dead]
    assert times == sorted(times, reverse=True)


def test_letters_of_one_moment_are_all_met_once(
    client: Client, buried: Callable[..., list[str]], connection: redis.Redis
) -> None:
    jobs = buried(3 * PAGE_LETTERS)
    connection.zadd(Keys().dead, dict.fromkeys(jobs[3:-3], 1234.5))
    met = ids(client)
    assert sorted(met) == sorted(jobs)
    # Nor does it matter that some are gone before the next page.
    met = [client.dead.purge(letter.id) for letter in client.dead]
    assert len(met) == len(jobs)


def test_going_through_letters_ends_although_they_die_again(
    client: Client, buried: Callable[..., list[str]], finish: Finish
) -> None:
    jobs = buried(PAGE_LETTERS + 1)
    met = 0
    for letter in client.dead:
        assert client.dead.retry(letter.id) == 1
        finish(letter.id, [POISONED])
        met += 1
    assert met == len(jobs) == len(ids(client))


def test_what_is_no_longer_kept_is_left_out_and_taken_off(
    client: Client, buried: Callable[..., list[str]], connection: redis.Redis
) -> None:
    old, new = buried(2)
    connection.delete(Keys().record(old), Keys().result(old))
    assert ids(client) == [new]
    assert connection.zrange(Keys().dead, 0, -1) == [new.encode()]
    connection.zadd(Keys().dead, {old: 1.0})
    with pytest.raises(JobUnknown, match=old):
        client.dead.get(old)


def test_only_what_died_is_asked_again(
    client: Client, batch_id: str, finish: Finish, connection: redis.Redis
) -> None:
    job_id = f"{batch_id}:1"
    assert client.dead.retry([job_id]) == 2
    assert ids(client) == []
    progress = client.batch(batch_id).progress()
    assert (progress.done, progress.failed, progress.finished) == (4, 0, False)
    kept = [item.get("result") for item in asked(connection, job_id)["items"]]
    assert kept == [{"text": "a"}, None, BROKEN, None]
    # Asked again, it may die again; what it shows is what was asked, and nothing of its past.
    finish(job_id, [{"text": "a"}, POISONED, BROKEN, {"text": "b"}])
    (letter,) = client.dead
    assert [(one.index, one.item) for one in letter.died] == [(5, {"image": URL, "custom_id": "5"})]
    progress = client.batch(batch_id).progress()
    assert (progress.done, progress.failed) == (8, 2)


def test_all_are_asked_again(
    client: Client, buried: Callable[..., list[str]], batch_id: str, finish: Finish
) -> None:
    jobs = buried(PAGE_LETTERS + 1)
    assert client.dead.retry() == len(jobs) + 2
    assert ids(client) == []
    assert client.job(jobs[0]).status() is State.QUEUED
    finish(jobs[0], [{"text": "a cat"}])
    assert client.job(jobs[0]).result(timeout=5) == "a cat"


def test_purged_letters_are_gone_and_their_results_stay(
    client: Client, buried: Callable[..., list[str]]
) -> None:
    jobs = buried(4)
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
    verb: str, client: Client, buried: Callable[..., list[str]]
) -> None:
    jobs = buried(2)
    with pytest.raises(JobUnknown, match="no dead letter nobody"):
        getattr(client.dead, verb)([jobs[0], "nobody", jobs[1]])
    assert ids(client) == jobs[::-1]


def test_deployments_that_share_a_redis_have_letters_of_their_own(
    client: Client, buried: Callable[..., list[str]], redis_url: str, connection: redis.Redis
) -> None:
    buried(1)
    settings = ClientSettings(redis_url=redis_url, key_prefix="other:")
    with Client(settings=settings) as other:
        job_id = other.caption(URL).id
        stored = json.dumps({"status": "SUCCESS", "result": [POISONED]})
        Leases(connection, Keys("other:")).finish(job_id, stored, 1, dead=True)
        assert ids(other) == [job_id]
        assert other.dead.retry() == 1
    assert len(ids(client)) == 1


def test_a_job_that_celery_itself_failed_died_as_a_whole(
    client: Client, connection: redis.Redis
) -> None:
    batch = client.submit_batch([URL, URL])
    result = {"exc_type": "NotRegistered", "exc_message": "blipline.caption"}
    stored = json.dumps({"status": "FAILURE", "result": result})
    Leases(connection).finish(f"{batch.id}:0", stored, -1, dead=True)
    (letter,) = client.dead
    assert [one.code for one in letter.died] == ["internal", "internal"]
    assert client.dead.retry(letter.id) == 2


# The shell


def test_the_list_has_a_line_for_each_letter(
    client: Client,
    buried: Callable[..., list[str]],
    batch_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (job_id,) = buried(1)
    assert run(["dead", "list"]) == Exit.OK
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert first[0] == job_id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first[1])
    assert first[2:] == ["caption", "poisoned", "1 of 1", "https://images.example.com/0.jpg"]
    assert (second[0], second[3], second[4]) == (f"{batch_id}:1", "internal,poisoned", "2 of 4")
    assert run(["dead", "list", "--json"]) == Exit.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [letter.to_json() for letter in client.dead]


def test_an_empty_list_says_so_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead", "list"]) == Exit.OK
    assert capsys.readouterr() == ("", "blipline: no dead letters\n")


def test_show_tells_every_item_that_died(
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


def test_retry_and_purge_print_how_much_it_was(
    client: Client,
    buried: Callable[..., list[str]],
    batch_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = buried(4)
    for command, said in (
        (["retry", jobs[0], f"{batch_id}:1"], "3\n"),
        (["retry", "--json", jobs[1]], '{"items": 1}\n'),
        (["purge", jobs[2]], "1\n"),
        (["purge", "--all", "--json"], '{"letters": 1}\n'),
        (["retry", "--all"], "0\n"),
    ):
        assert run(["dead", *command]) == Exit.OK
        assert capsys.readouterr() == (said, "")
    assert ids(client) == []
    assert [client.job(job_id).status().value for job_id in jobs] == [
        "queued",
        "queued",
        "failed",
        "failed",
    ]


@pytest.mark.parametrize("verb", ["show", "retry", "purge"])
def test_an_id_that_is_no_letters_is_wrong_input(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", verb, "nobody"]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, "no dead letter nobody" in err) == ("", True)


@pytest.mark.parametrize("verb", ["retry", "purge"])
@pytest.mark.parametrize("chosen", [(), ("0198c0de", "--all")])
def test_all_of_them_are_asked_for_by_name(
    verb: str,
    chosen: tuple[str, ...],
    client: Client,
    buried: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    buried(1)
    assert run(["dead", verb, *chosen]) == Exit.USAGE
    assert "--all" in capsys.readouterr().err
    assert len(ids(client)) == 1
