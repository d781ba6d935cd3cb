from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from demo.stack import free_port
from producer import (
    Client,
    ConnectionFailed,
    InvalidInput,
    JobCancelled,
    JobFailed,
    JobUnknown,
    Match,
    State,
    WaitTimeout,
    contract,
)
from producer.contract import Item
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger

KEYS = Keys()
URL = "https://images.example.com/cat.jpg"
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def newest_message(connection: redis.Redis, queue: str) -> dict[str, Any]:
    """Return the newest message of a queue as a worker receives it."""
    raw = connection.lindex(queue, 0)
    assert raw is not None
    envelope: dict[str, Any] = json.loads(raw)
    return envelope


def test_a_submitted_job_is_queued_until_a_worker_starts_it(client: Client) -> None:
    assert client.caption(URL).status() is State.QUEUED


def test_a_job_is_found_again_by_its_id_alone(client: Client, redis_url: str) -> None:
    job = client.caption(URL)
    with Client(redis_url) as another:
        assert another.job(job.id).status() is State.QUEUED


def test_a_job_that_was_never_submitted_is_unknown(client: Client) -> None:
    stranger = client.job("01890000-0000-7000-8000-0000000000zz")
    assert stranger.status() is State.UNKNOWN
    with pytest.raises(JobUnknown):
        stranger.result(timeout=5)


def test_a_job_older_than_results_are_kept_is_expired(client: Client) -> None:
    # Its id contains a time in 2023.
    assert client.job("01890000-0000-7000-8000-000000000000").status() is State.EXPIRED


def test_a_result_is_returned_as_soon_as_it_is_stored(client: Client, finish: Finish) -> None:
    job = client.caption(URL)
    finish(job.id, [{"text": "a red circle on a grey background"}])
    assert job.result(timeout=1) == "a red circle on a grey background"
    assert job.status() is State.DONE


def test_a_failed_item_raises_its_code_and_message(client: Client, finish: Finish) -> None:
    job = client.ask(URL, "what shape is it?")
    finish(job.id, [contract.failure("image_unreachable", "404")])
    with pytest.raises(JobFailed, match="404") as raised:
        job.result(timeout=1)
    assert raised.value.code == "image_unreachable"
    assert job.status() is State.FAILED


def test_a_finished_job_leaves_nothing_in_the_ledger(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    job = client.caption(URL)
    finish(job.id, [{"text": "x"}])
    assert not connection.keys("blipline:*")


def test_the_first_result_of_a_job_stays(client: Client, finish: Finish) -> None:
    job = client.caption(URL)
    finish(job.id, [{"text": "first"}])
    finish(job.id, [{"text": "second"}])
    assert job.result(timeout=1) == "first"


def test_a_cancelled_job_raises_at_once(client: Client) -> None:
    job = client.caption(URL)
    job.cancel()
    assert job.status() is State.CANCELLED
    with pytest.raises(JobCancelled):
        job.result(timeout=5)


def test_cancelling_a_finished_job_changes_nothing(client: Client, finish: Finish) -> None:
    job = client.caption(URL)
    finish(job.id, [{"text": "x"}])
    job.cancel()
    assert job.status() is State.DONE
    assert job.result(timeout=1) == "x"


def test_a_wait_without_a_worker_ends_with_the_probable_cause(client: Client) -> None:
    with pytest.raises(WaitTimeout, match=r"no worker has started it.*python -m worker"):
        client.caption(URL).result(timeout=0.2)


def test_a_message_is_plain_celery_and_readable_in_a_monitor(
    client: Client, connection: redis.Redis
) -> None:
    job = client.ask(URL, "how many shapes are there?", max_new_tokens=5)
    headers = newest_message(connection, "interactive")["headers"]
    assert headers["task"] == "blipline.vqa"
    assert headers["id"] == job.id
    assert headers["kwargsrepr"] == f"{URL} 'how many shapes are there?'"


def submitted(connection: redis.Redis) -> tuple[str, Any]:
    """Return the task and the first item of the newest job; its record has the item."""
    headers = newest_message(connection, "interactive")["headers"]
    (record,) = Ledger(connection).records([headers["id"]])
    assert record is not None
    return headers["task"], json.loads(record.payload)["items"][0]


def test_a_dialogue_is_sent_as_the_contract_has_it(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    turn: Any = {"question": "what is it?", "answer": "a cat"}
    job = client.chat(URL, "what color?", [("what is it?", "a cat"), turn])
    item = {"image": URL, "question": "what color?", "history": [turn, turn]}
    assert submitted(connection) == ("blipline.chat", item)
    finish(job.id, [{"text": "black"}])
    assert job.result(timeout=1) == "black"


def test_a_dialogue_longer_than_a_message_loses_its_oldest_turns(
    client: Client, connection: redis.Redis
) -> None:
    client.chat(URL, "and now?", ((f"{n}?", str(n)) for n in range(contract.MAX_TURNS + 2)))
    _, item = submitted(connection)
    assert Item.model_validate(item).history
    assert item["history"][0]["answer"] == "2"


def test_matches_come_in_the_order_of_the_texts(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    job = client.match(URL, ("a dog", "a cat"))
    assert submitted(connection) == ("blipline.match", {"image": URL, "texts": ["a dog", "a cat"]})
    matches = [
        {"text": "a dog", "probability": 0.1, "cosine": -0.2, "of_a_newer_worker": 1},
        {"text": "a cat", "probability": 0.9, "cosine": 0.4},
    ]
    finish(job.id, [{"text": "a cat", "matches": matches}])
    assert job.result(timeout=1) == [Match("a dog", 0.1, -0.2), Match("a cat", 0.9, 0.4)]
    assert client.job(job.id).result(timeout=1)[1].probability == 0.9


def test_one_text_is_matched_as_it_is(client: Client, connection: redis.Redis) -> None:
    client.match(URL, "a cat")
    assert submitted(connection)[1]["texts"] == ["a cat"]


def test_an_embedding_is_a_vector(client: Client, connection: redis.Redis, finish: Finish) -> None:
    job = client.embed(text="a cat")
    assert submitted(connection) == ("blipline.embed", {"text": "a cat"})
    assert newest_message(connection, "interactive")["headers"]["kwargsrepr"] == "'a cat'"
    finish(job.id, [{"embedding": [0.6, -0.8]}])
    assert job.result(timeout=1) == [0.6, -0.8]
    client.embed(picture_bytes())
    task, item = submitted(connection)
    assert (task, list(item)) == ("blipline.embed", ["image"])
    assert contract.is_blob(item["image"])


Call = Callable[[Client], object]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.chat(URL, ""), "question is empty"),
        (
            lambda client: client.chat(URL, "what?", [("one?",)]),
            r"history: pairs .*not \('one\?',\)",
        ),
        (lambda client: client.chat(URL, "what?", ["ab"]), "history: pairs .*not 'ab'"),
        (lambda client: client.chat(URL, "what?", [("one?", None)]), "history: pairs"),
        (lambda client: client.chat(URL, "what?", [{"question": "one?"}]), "history: pairs"),
        (lambda client: client.chat(URL, "what?", None), "history: a list is needed, not NoneType"),
        (lambda client: client.chat(URL, "what?", [], beams=3), "beams: no such name"),
        (lambda client: client.match(URL, []), "texts: 1 to 256 texts are needed, not 0"),
        (lambda client: client.match(URL, ["a"] * 257), "1 to 256 texts are needed, not 257"),
        (lambda client: client.match(URL, ["a cat", " "]), "text is empty"),
        (lambda client: client.match(URL, 7), "texts: a list is needed, not int"),
        (lambda client: client.match("no.png", "a cat"), "no.png: No such file"),
        (lambda client: client.embed(), "needs an image or a text: pass one"),
        (lambda client: client.embed(URL, text="a cat"), "needs an image or a text: pass one"),
        (lambda client: client.embed(text=""), "text is empty"),
        (
            lambda client: client.embed(URL, deadline_s=0),
            "deadline_s=0: must be a number of seconds above 0",
        ),
    ],
)
def test_an_invalid_argument_is_named_and_nothing_is_submitted(
    client: Client, connection: redis.Redis, call: Call, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        call(client)
    assert not connection.exists("interactive", KEYS.open)


def picture_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_path_bytes_and_a_pil_image_become_one_blob(
    client: Client, connection: redis.Redis, tmp_path: Path
) -> None:
    data = picture_bytes()
    (tmp_path / "red.png").write_bytes(data)
    for image in (tmp_path / "red.png", str(tmp_path / "red.png"), data):
        client.caption(image)
    (blob,) = connection.keys("blipline:blob:*")
    assert connection.get(blob) == data
    client.caption(Image.new("RGB", (8, 8), "red"))
    assert len(connection.keys("blipline:blob:*")) <= 2


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "RGBA", "1", "I;16"])
def test_a_pil_image_of_any_mode_can_be_submitted(client: Client, mode: str) -> None:
    assert client.caption(Image.new(mode, (8, 8))).status() is State.QUEUED


def test_a_pil_image_of_a_truncated_file_is_rejected(client: Client) -> None:
    broken = Image.open(io.BytesIO(picture_bytes()[:-30]))
    with pytest.raises(InvalidInput, match="cannot be read") as raised:
        client.caption(broken)
    assert raised.value.code == "image_invalid"


def test_an_uploaded_image_stays_for_as_long_as_a_job_names_it(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    jobs = [client.caption(picture_bytes()) for _ in range(2)]
    (blob,) = connection.keys("blipline:blob:*")
    assert connection.ttl(blob) == -1
    finish(jobs[0].id, [{"text": "x"}])
    assert connection.ttl(blob) == -1
    finish(jobs[1].id, [{"text": "x"}])
    assert 0 < connection.ttl(blob) <= contract.BLOB_TTL_S
    # And when another job names it before it expires
    client.caption(picture_bytes())
    assert connection.ttl(blob) == -1


@pytest.mark.parametrize(
    ("image", "code", "message"),
    [
        ("missing.png", "image_unreachable", "missing.png: No such file"),
        (b"", "image_invalid", "0 bytes"),
        (42, "image_invalid", "not int"),
        (".", "image_unreachable", "not a regular file"),
    ],
)
def test_an_invalid_image_is_rejected_before_anything_is_submitted(
    client: Client, connection: redis.Redis, image: Any, code: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        client.caption(image)
    assert raised.value.code == code
    assert not connection.exists("interactive", KEYS.open)


def test_an_empty_question_is_rejected(client: Client) -> None:
    with pytest.raises(InvalidInput, match="question is empty"):
        client.ask(URL, "  ")


def test_an_unknown_option_is_rejected_with_the_known_ones(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"beams: no such name; valid names: max_new_tokens"):
        client.caption(URL, beams=5)


def test_an_invalid_option_value_is_rejected(client: Client) -> None:
    with pytest.raises(InvalidInput, match="temperature=-1"):
        client.caption(URL, temperature=-1)


def test_an_unreachable_redis_is_an_error_without_the_password() -> None:
    with Client(f"redis://user:secret@127.0.0.1:{free_port()}/0") as client:
        with pytest.raises(ConnectionFailed, match="BLIPLINE_REDIS_URL") as raised:
            client.caption(URL)
        with pytest.raises(ConnectionFailed):
            client.job("x").status()
    assert "secret" not in str(raised.value)


def test_an_invalid_redis_url_names_the_setting() -> None:
    with pytest.raises(InvalidInput, match=r"BLIPLINE_REDIS_URL='localhost'.*redis://"):
        Client("localhost")
