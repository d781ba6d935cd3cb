"""The command line against a real Redis; a thread plays the worker where answers are needed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis

from demo.stack import ROOT, free_port
from producer import Client, contract
from producer.cli.app import blipline, run
from producer.cli.exit_codes import Exit, report
from producer.contract import Item, Options, Task
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger

URL = "https://images.example.com/cat.jpg"
PROGRAM = [sys.executable, "-m", "producer.cli"]

Finish = Callable[[str, list[dict[str, Any]]], None]


def answered(item: dict[str, Any]) -> dict[str, Any]:
    """What the played worker makes of an item."""
    known = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
    if "error" in item:
        return known | {"error": item["error"]}
    if item.get("image", "").endswith("broken.jpg") or item.get("question") == "and this?":
        return known | contract.failure("image_invalid", "no image")
    return known | said(item)


def said(item: dict[str, Any]) -> dict[str, Any]:
    """The task shows in what an item has."""
    if "texts" in item:
        scores = [(0.25, -0.5), (0.99999, 0.4321), (0.25, 0.1)]
        matches = [
            {"text": text, "probability": probability, "cosine": cosine}
            for text, (probability, cosine) in zip(item["texts"], scores, strict=False)
        ]
        return {"text": item["texts"][0], "matches": matches}
    if "text" in item or "vector" in item["image"]:
        return {"embedding": [0.6, -0.8]}
    before = f" after {item['history']}" if item.get("history") else ""
    return {"text": f"about {item.get('question') or item['image'].rpartition('/')[2]}{before}"}


def id_of(raw: bytes) -> str:
    """The task id of a Celery message."""
    task_id: str = json.loads(raw)["headers"]["id"]
    return task_id


@pytest.fixture
def workers(connection: redis.Redis, finish: Finish) -> Iterator[None]:
    """Answers every message of both queues."""
    over, ledger = threading.Event(), Ledger(connection)

    def work() -> None:
        while not over.is_set():
            taken = connection.brpop(["interactive", "bulk"], timeout=0.05)
            if taken is not None:
                begun = ledger.claim(id_of(taken[1]))
                assert begun.payload is not None
                results = [item.get("result") or answered(item) for item in begun.payload["items"]]
                finish(id_of(taken[1]), results)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path) -> None:
    """Every command, also one in a process of its own, uses this Redis and starts in tmp_path."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def queued(connection: redis.Redis, queue: str = "bulk") -> list[dict[str, Any]]:
    """What every message that waits asks, oldest first."""
    ids = [id_of(raw) for raw in reversed(connection.lrange(queue, 0, -1))]
    rows = Ledger(connection).records(ids) if ids else []
    return [json.loads(row.payload) for row in rows if row is not None]


def write_lines(*items: Any) -> str:
    """A JSONL file of these items; its name."""
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return "items.jsonl"


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def commands(group: click.Group, path: str = "blipline") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


# Help


@pytest.mark.parametrize("path", list(dict(commands(blipline))))
def test_every_command_and_option_has_help_and_an_example(path: str) -> None:
    command = dict(commands(blipline))[path]
    assert command.help
    assert re.search(rf"^ {{2,}}.*{path} ", command.help, re.MULTILINE), "no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"


@pytest.mark.parametrize("path", ["caption", "ask", "chat", "batch submit"])
def test_every_generation_option_of_the_contract_is_on_the_command_line(path: str) -> None:
    options = {o for p in dict(commands(blipline))[f"blipline {path}"].params for o in p.opts}
    wanted = {name.replace("_", "-") for name in Options.model_fields} - {"deadline"}
    assert {f"--{name}" for name in wanted | {"deadline-s"}} <= options


@pytest.mark.parametrize("name", set(Item.model_fields) - {"error"})
def test_the_help_of_batches_tells_every_field_of_an_item(name: str) -> None:
    help_text = dict(commands(blipline))["blipline batch submit"].help or ""
    assert re.search(rf"^ {{6}}{name} ", help_text, re.MULTILINE)


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == Exit.OK
    out = capsys.readouterr().out
    for code in Exit:
        if code not in (Exit.NO_READER, Exit.TERMINATED):
            assert f"\n    {code.value} " in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("blipline")


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    program = "import sys; sys.modules['rich'] = None; from producer.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pip install 'blipline[cli]'" in ended.stderr


# Captions and questions


@pytest.mark.usefixtures("workers")
def test_one_image_prints_its_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", URL]) == Exit.OK
    assert capsys.readouterr() == ("about cat.jpg\n", "")
    assert run(["ask", URL, "how many?"]) == Exit.OK
    assert capsys.readouterr() == ("about how many?\n", "")


@pytest.mark.usefixtures("workers")
def test_several_images_print_a_line_each_and_a_bad_one_fails_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = "https://images.example.com/broken.jpg"
    Path("photos").mkdir()
    assert run(["caption", URL, broken, "photos", "missing.jpg", URL]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    assert out == f"{URL}\tabout cat.jpg\n" * 2
    assert f"{broken}: no image (image_invalid)" in err
    assert "photos: a directory; name its files: blipline caption photos/*.jpg" in err
    assert "missing.jpg: No such file" in err


@pytest.mark.usefixtures("workers")
def test_json_has_a_line_for_each_image_also_for_one_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["caption", "--json", URL, "missing.jpg"]) == Exit.SOME_FAILED
    good, bad = json_lines(capsys.readouterr().out)
    assert good == {"image": URL, "status": "ok", "text": "about cat.jpg"}
    assert (bad["status"], bad["error"]["code"]) == ("error", "image_unreachable")


@pytest.mark.parametrize("image", ["missing.jpg", ".", "*.jpg"])
def test_when_no_image_can_be_used_that_is_wrong_input_and_nothing_is_submitted(
    image: str, connection: redis.Redis
) -> None:
    assert run(["caption", image]) == Exit.USAGE
    assert not queued(connection, "interactive")


def test_options_reach_the_message_and_defaults_stay_out(connection: redis.Redis) -> None:
    assert run(["caption", URL, "--top-k", "3", "--timeout", "0"]) == Exit.NO_RESULT
    (arguments,) = queued(connection, "interactive")
    assert arguments["options"] == {"top_k": 3}


def test_an_option_that_is_on_or_off_is_a_flag(connection: redis.Redis) -> None:
    command = ["caption", URL, "--num-beams", "3", "--early-stopping", "--timeout", "0"]
    assert run(command) == Exit.NO_RESULT
    (arguments,) = queued(connection, "interactive")
    assert arguments["options"] == {"num_beams": 3, "early_stopping": True}


@pytest.mark.parametrize("wrong", [("--top-p", "0"), ("--seed", "x"), ("--max-new-tokens", "0")])
def test_an_option_out_of_bounds_is_refused(wrong: tuple[str, str]) -> None:
    assert run(["caption", URL, *wrong]) == Exit.USAGE


def test_what_nobody_waits_for_any_more_is_cancelled(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", URL, URL, "--timeout", "0.05"]) == Exit.NO_RESULT
    assert "is cancelled now" in capsys.readouterr().err
    assert len(list(connection.scan_iter(Keys().cancelled("*")))) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("caption", URL),
        ("ask", URL, "what?"),
        ("chat", URL, "what?"),
        ("match", URL, "a cat"),
        ("embed", URL),
        ("batch", "status", "x"),
        ("batch", "retry", "x"),
        ("dead", "list"),
    ],
)
def test_a_redis_that_cannot_be_reached_has_an_exit_code_of_its_own(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--redis-url", f"redis://127.0.0.1:{free_port()}"]) == Exit.NO_REDIS
    err = capsys.readouterr().err
    assert "BLIPLINE_REDIS_URL" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [("caption", URL), ("match", URL, "a"), ("chat", URL, "a?")])
def test_a_full_queue_has_an_exit_code_of_its_own(
    command: tuple[str, ...],
    connection: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    with Client() as client:
        client.caption(URL)
    assert run([*command]) == Exit.QUEUE_FULL
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "BLIPLINE_MAX_QUEUED_INTERACTIVE" in err
    assert "try again later" in err
    assert len(queued(connection, "interactive")) == 1


def test_what_was_asked_before_the_queue_was_full_is_cancelled(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    assert run(["embed", URL, URL]) == Exit.QUEUE_FULL
    assert len(list(connection.scan_iter(Keys().cancelled("*")))) == 1


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("verb", ["caption", "embed"])
def test_a_full_queue_is_waited_for_on_demand(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    assert run([verb, *[URL] * 5, "--when-full", "wait"]) == Exit.OK


# Dialogues

TURN = {"question": "what is it?", "answer": "a cat"}


def converse(
    monkeypatch: pytest.MonkeyPatch, lines: bytes, *arguments: str, image: str = URL
) -> Exit:
    """`blipline chat` at the end of a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    return Exit(run(["chat", image, *arguments]))


@pytest.mark.usefixtures("workers")
def test_a_question_is_asked_after_the_turns_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    turns = ["--turn", *TURN.values(), "--turn", "where?", "on a sofa"]
    assert run(["chat", URL, "what color?", *turns]) == Exit.OK
    history = [TURN, {"question": "where?", "answer": "on a sofa"}]
    assert capsys.readouterr() == (f"about what color? after {history}\n", "")


@pytest.mark.usefixtures("workers")
def test_a_dialogue_in_a_pipe_remembers_what_was_answered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert converse(monkeypatch, b"one?\n\n  two?  \n") == Exit.OK
    turn = {"question": "one?", "answer": "about one?"}
    assert capsys.readouterr() == (f"about one?\nabout two? after {[turn]}\n", "")


@pytest.mark.usefixtures("workers")
def test_a_question_that_fails_holds_its_line_and_is_not_remembered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"one?\nand this?\nthree?"
    assert converse(monkeypatch, lines, "--turn", *TURN.values()) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    history = [TURN, {"question": "one?", "answer": f"about one? after {[TURN]}"}]
    first, second, third = out.split("\n")[:3]
    assert (first, second) == (history[1]["answer"], "")
    assert third == f"about three? after {history}"
    assert err == "blipline: and this?: no image (image_invalid)\n"


@pytest.mark.usefixtures("workers")
def test_json_tells_question_and_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert converse(monkeypatch, b"one?\nand this?\n", "--json") == Exit.SOME_FAILED
    good, bad = json_lines(capsys.readouterr().out)
    assert good == {"image": URL, "question": "one?", "status": "ok", "text": "about one?"}
    assert (bad["question"], bad["error"]["code"]) == ("and this?", "image_invalid")
    assert run(["chat", URL, "one?", "--json"]) == Exit.OK
    assert json_lines(capsys.readouterr().out) == [good]


@pytest.mark.usefixtures("workers")
def test_nobody_goes_on_asking_about_an_image_that_cannot_be_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "https://images.example.com/broken.jpg"
    assert converse(monkeypatch, b"one?\ntwo?\n", image=broken) == Exit.SOME_FAILED
    assert capsys.readouterr().err.count("image_invalid") == 1
    for image in ("missing.jpg", ".", "*.jpg"):
        assert converse(monkeypatch, b"one?\n", image=image) == Exit.USAGE
        assert image in capsys.readouterr().err


def test_on_a_terminal_prompts_stay_out_of_the_data(redis_url: str, finish: Finish) -> None:
    # Given a dialogue whose answers go to a file
    person, terminal = os.openpty()
    command = [*PROGRAM, "chat", URL]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(terminal)
        # When a question is typed, and answered, and Ctrl-D ends it
        os.write(person, b"one?\n")
        with redis.Redis.from_url(redis_url) as connection:
            taken = connection.brpop(["interactive"], timeout=20)
        assert taken is not None
        finish(id_of(taken[1]), [{"text": "a cat"}])
        os.write(person, b"\x04")
        out, err = process.communicate(timeout=20)
    os.close(person)
    # Then the file has the answer, and the terminal the rest
    assert (process.returncode, out) == (Exit.OK, "a cat\n")
    assert err == f"blipline: ask about {URL}; Ctrl-D ends\n> > \n"


# Matches and embeddings


@pytest.mark.usefixtures("workers")
def test_the_likeliest_text_comes_first_and_json_keeps_the_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = ["a dog", "a\tcat", "a cow"]
    assert run(["match", URL, *texts]) == Exit.OK
    assert capsys.readouterr() == (
        "1.0000\t0.4321\ta cat\n0.2500\t-0.5000\ta dog\n0.2500\t0.1000\ta cow\n",
        "",
    )
    assert run(["match", URL, *texts, "--json"]) == Exit.OK
    (line,) = json_lines(capsys.readouterr().out)
    assert (line["image"], line["status"]) == (URL, "ok")
    assert [one["text"] for one in line["matches"]] == texts
    assert line["matches"][1] == {"text": "a\tcat", "probability": 0.99999, "cosine": 0.4321}


@pytest.mark.usefixtures("workers")
def test_vectors_are_a_line_each_and_null_where_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = ["https://x.org/vector.jpg", "https://x.org/broken.jpg", "https://x.org/vector.png"]
    assert run(["embed", *images]) == Exit.SOME_FAILED
    assert capsys.readouterr().out == "[0.6, -0.8]\nnull\n[0.6, -0.8]\n"
    assert run(["embed", "--text", "a cat", "--text", "a dog", "--json"]) == Exit.OK
    assert json_lines(capsys.readouterr().out) == [
        {"text": text, "status": "ok", "embedding": [0.6, -0.8]} for text in ("a cat", "a dog")
    ]


@pytest.mark.parametrize("wrong", [(), (URL, "--text", "a cat")])
def test_an_embedding_is_of_images_or_of_texts(
    wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", *wrong]) == Exit.USAGE
    assert "--text" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [("match", URL, " "), ("match", "no.jpg", "a"), ("embed", "--text", ""), ("chat", URL, " ")],
)
def test_what_cannot_be_asked_is_wrong_input_and_nothing_is_submitted(
    command: tuple[str, ...], connection: redis.Redis
) -> None:
    assert run([*command]) == Exit.USAGE
    assert not queued(connection, "interactive")


def test_matches_and_embeddings_have_a_deadline_and_no_options(connection: redis.Redis) -> None:
    for command in (("match", URL, "a cat"), ("embed", URL)):
        assert run([*command, "--deadline-s", "60", "--timeout", "0"]) == Exit.NO_RESULT
        assert run([*command, "--top-k", "3"]) == Exit.USAGE
    assert [list(one["options"]) for one in queued(connection, "interactive")] == [["deadline"]] * 2


# Batches


def test_submit_prints_the_id_and_results_come_in_the_order_of_the_lines(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(40)))
    assert run(["batch", "submit", file]) == Exit.OK
    batch_id = capsys.readouterr().out.strip()
    # The second chunk ends first.
    for number, places in ((1, range(32, 40)), (0, range(32))):
        finish(f"{batch_id}:{number}", [{"custom_id": f"c{n}", "text": str(n)} for n in places])
    assert run(["batch", "results", batch_id]) == Exit.OK
    lines = json_lines(capsys.readouterr().out)
    assert lines == [{"custom_id": f"c{n}", "status": "ok", "text": str(n)} for n in range(40)]


def test_items_may_say_what_is_asked_of_them(connection: redis.Redis) -> None:
    question = {"custom_id": "q", "image": URL, "task": "vqa", "question": "what?"}
    assert run(["batch", "submit", write_lines(question), "--seed", "1"]) == Exit.OK
    asked = {"task": "caption", "items": [question], "options": {"seed": 1}}
    assert queued(connection) == [asked]


@pytest.mark.parametrize("task", [task.short for task in Task])
def test_a_batch_may_ask_any_task(task: str, connection: redis.Redis) -> None:
    assert run(["batch", "submit", write_lines({"image": URL}), "--task", task]) == Exit.OK
    headers = json.loads(connection.lindex("bulk", 0) or "")["headers"]
    assert headers["task"] == f"blipline.{task}"


@pytest.mark.usefixtures("workers")
def test_results_hold_what_each_task_gives(capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(
        {"image": URL, "task": "match", "texts": ["a dog", "a cat"]},
        {"task": "embed", "text": "a cat"},
        {"image": URL, "task": "chat", "question": "where?", "history": [TURN]},
    )
    assert run(["batch", "submit", file, "--wait"]) == Exit.OK
    match, embed, chat = json_lines(capsys.readouterr().out)
    assert [sorted(one) for one in match["matches"]] == [["cosine", "probability", "text"]] * 2
    assert embed == {"custom_id": "2", "status": "ok", "embedding": [0.6, -0.8]}
    assert chat["text"] == f"about where? after {[TURN]}"


@pytest.mark.usefixtures("workers")
def test_wait_writes_a_result_for_each_line_good_or_bad() -> None:
    Path("items.jsonl").write_text(
        "\n".join([json.dumps({"image": URL}), "nonsense", "", json.dumps({"image": "no.jpg"})])
    )
    command = ["batch", "submit", "items.jsonl", "--wait", "-o", "out.jsonl"]
    assert run(command) == Exit.SOME_FAILED
    good, nonsense, missing = json_lines(Path("out.jsonl").read_text())
    assert good == {"custom_id": "1", "status": "ok", "text": "about cat.jpg"}
    assert (nonsense["custom_id"], nonsense["error"]["code"]) == ("2", "option_invalid")
    assert (missing["custom_id"], missing["error"]["code"]) == ("4", "image_unreachable")
    assert sorted(os.listdir()) == ["items.jsonl", "out.jsonl"]


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_submitted(
    connection: redis.Redis,
) -> None:
    Path("directory").mkdir()
    file = write_lines({"image": URL})
    for output in ("no/such/place.jsonl", "directory", "/dev/null"):
        assert run(["batch", "submit", file, "--wait", "-o", output]) == Exit.USAGE
    assert not connection.exists("bulk")
    assert Path("/dev/null").is_char_device()


def test_output_without_wait_is_a_mistake_that_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["batch", "submit", write_lines({"image": URL}), "-o", "out"]) == Exit.USAGE
    assert "add --wait" in capsys.readouterr().err


def test_an_output_file_is_never_half_a_file(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["batch", "submit", write_lines(*[{"image": URL}] * 40), "--json"])
    batch_id = json.loads(capsys.readouterr().out)["batch"]
    finish(f"{batch_id}:0", [{"text": "a"}] * 32)
    Path("out.jsonl").write_text("what was there\n")
    assert run(["batch", "results", batch_id, "-o", "out.jsonl", "--timeout", "0.05"]) == 4
    assert Path("out.jsonl").read_text() == "what was there\n"
    assert sorted(os.listdir()) == ["items.jsonl", "out.jsonl"]
    assert f"blipline batch results {batch_id}" in capsys.readouterr().err


def test_no_wait_prints_what_there_is(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    run(["batch", "submit", write_lines(*[{"image": URL}] * 40)])
    batch_id = capsys.readouterr().out.strip()
    finish(f"{batch_id}:0", [{"text": "a"}] * 32)
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    assert len(json_lines(capsys.readouterr().out)) == 32


def submitted(capsys: pytest.CaptureFixture[str], count: int, *arguments: str) -> str:
    """The id of a batch of captions."""
    items = ({"custom_id": f"c{n}", "image": URL} for n in range(count))
    assert run(["batch", "submit", write_lines(*items), *arguments]) == Exit.OK
    return capsys.readouterr().out.strip()


def texts(first: int, last: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"c{n}", "text": str(n)} for n in range(first, last)]


NO_IMAGE = contract.failure("image_invalid", "no image")


def test_a_batch_of_an_id_of_ones_own_is_submitted_once_however_often_it_is_tried(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert submitted(capsys, 40, "--id", "nightly") == "nightly"
        assert [len(one["items"]) for one in queued(connection)] == [32, 8]
    # Other items are another batch.
    assert run(["batch", "submit", write_lines({"image": "blob:x"}), "--id", "nightly"]) == 2
    assert "others need another id" in capsys.readouterr().err
    assert run(["batch", "submit", write_lines({"image": URL}), "--id", "a b"]) == Exit.USAGE


def test_a_batch_that_found_the_queue_full_goes_on_under_its_id(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a queue with room for one chunk of two
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_BULK", "32")
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(5000)))
    # When a batch is submitted that does not wait
    assert run(["batch", "submit", file, "--id", "big", "--when-full", "raise"]) == Exit.QUEUE_FULL
    assert "BLIPLINE_MAX_QUEUED_BULK" in capsys.readouterr().err
    # Then the same command submits the rest when there is room
    monkeypatch.delenv("BLIPLINE_MAX_QUEUED_BULK")
    assert run(["batch", "submit", file, "--id", "big"]) == Exit.OK
    with Client() as client:
        progress = client.batch("big").progress()
    assert (progress.total, progress.submitted) == (5000, True)
    assert connection.zcard(Keys().open) == -(-5000 // 32)


@pytest.mark.usefixtures("workers")
def test_a_batch_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_BULK", "32")
    file = write_lines(*[{"image": URL}] * 100)
    assert run(["batch", "submit", file, "--wait", "-o", "out.jsonl"]) == Exit.OK
    assert len(json_lines(Path("out.jsonl").read_text())) == 100


def test_a_submission_that_is_stopped_says_how_to_submit_the_rest(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(8000)))
    # Given a pipe that has not yet said everything
    command = [*PROGRAM, "batch", "submit", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(Path(file).read_text())
        process.stdin.flush()
        while not connection.exists("bulk"):
            assert process.poll() is None
        # When Ctrl-C ends it
        threading.Event().wait(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    # Then its id continues it
    assert process.returncode == Exit.INTERRUPTED
    found = re.search(r"as batch (\S+); the same command with --id \1 submits the rest", err)
    assert found is not None
    assert run(["batch", "submit", file, "--id", found[1], "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"batch": found[1], "items": 8000}
    assert connection.zcard(Keys().open) == 8000 // 32


def test_results_are_kept_as_long_as_is_said(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(capsys, 1, "--keep-s", "1000")
    finish(f"{batch_id}:0", texts(0, 1))
    assert 990 < connection.ttl(Keys().result(f"{batch_id}:0")) <= 1000
    assert run(["batch", "submit", "items.jsonl", "--keep-s", "0"]) == Exit.USAGE


def test_results_in_their_order_go_on_after_the_lines_that_were_read(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(capsys, 70)
    finish(f"{batch_id}:0", texts(0, 32))
    finish(f"{batch_id}:1", texts(32, 64))
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    out, err = capsys.readouterr()
    assert f"blipline batch results {batch_id} --cursor 64\n" in err
    finish(f"{batch_id}:2", texts(64, 70))
    for cursor in (64, 33, 70):
        assert run(["batch", "results", batch_id, "--cursor", str(cursor)]) == Exit.OK
        rest = capsys.readouterr().out
        assert len(rest.splitlines()) == 70 - cursor
        if cursor == 64:
            whole = json_lines(out + rest)
            assert [line["custom_id"] for line in whole] == [f"c{n}" for n in range(70)]
            assert {*whole[0]} == {"custom_id", "status", "text"}


def test_an_unfinished_file_is_begun_anew(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(capsys, 40)
    finish(f"{batch_id}:0", texts(0, 32))
    command = ["batch", "results", batch_id, "--cursor", "5", "--no-wait", "-o", "out.jsonl"]
    assert run(command) == Exit.NO_RESULT
    assert f"blipline batch results {batch_id} --cursor 5\n" in capsys.readouterr().err


def test_results_as_completed_say_which_item_and_where_to_go_on(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch whose last chunk, a short one, ended first
    batch_id = submitted(capsys, 70)
    finish(f"{batch_id}:2", texts(64, 70))
    finish(f"{batch_id}:0", texts(0, 32))
    command = ["batch", "results", batch_id, "--as-completed"]
    assert run([*command, "--no-wait"]) == Exit.NO_RESULT
    out, err = capsys.readouterr()
    lines = json_lines(out)
    assert [line["index"] for line in lines] == [*range(64, 70), *range(32)]
    assert {line["custom_id"] for line in lines} == {f"c{line['index']}" for line in lines}
    assert f"{batch_id} --as-completed --cursor {lines[-1]['cursor']}\n" in err
    # Then the cursor of any line goes on after it
    finish(f"{batch_id}:1", texts(32, 64))
    for place in (2, 5, 6, 37):
        assert run([*command, "--cursor", str(lines[place]["cursor"])]) == Exit.OK
        rest = json_lines(capsys.readouterr().out)
        wanted = [line["index"] for line in lines[place + 1 :]] + [*range(32, 64)]
        assert [line["index"] for line in rest] == wanted


def test_as_completed_a_batch_that_was_cancelled_is_not_all_right(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(capsys, 40)
    finish(f"{batch_id}:1", texts(32, 40))
    run(["batch", "cancel", batch_id])
    capsys.readouterr()
    assert run(["batch", "results", batch_id, "--as-completed"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    assert len(json_lines(out)) == 8
    assert "cancelled; 8 of 40 items had ended" in err


def test_status_and_cancel_tell_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    batch_id = submitted(capsys, 1)
    assert run(["batch", "status", batch_id]) == Exit.OK
    assert capsys.readouterr().out == "queued: 0 of 1 done, 0 failed\n"
    assert run(["batch", "cancel", batch_id]) == Exit.OK
    assert capsys.readouterr().out == ""
    assert run(["batch", "status", batch_id, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["state"] == "cancelled"
    assert run(["batch", "results", batch_id]) == Exit.SOME_FAILED


@pytest.mark.parametrize(
    ("of_late", "left", "said"),
    [
        (412_000, 8_652, "412 items/s, 21 s left"),
        (12_000, 8_640, "12 items/s, 12 min left"),
        (1_200, 8_640, "1.2 items/s, 2.0 h left"),
    ],
)
def test_status_tells_how_fast_it_goes_and_how_long_it_takes(
    of_late: int,
    left: int,
    said: str,
    connection: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch_id = submitted(capsys, 1)
    # As the ledger has it for a batch that has gone on for a while.
    done = 500_000
    counts = {"total": done + left, "done": done, "failed": 3, "before_done": done - of_late}
    seconds, microseconds = connection.time()
    times = {"before_at": seconds + microseconds / 1e6 - 1000}
    connection.hset(Keys().batch(batch_id), mapping=counts | times)
    assert run(["batch", "status", batch_id]) == Exit.OK
    wanted = f"running: 500,000 of {done + left:,} done, 3 failed; {said}\n"
    assert capsys.readouterr().out == wanted
    assert run(["batch", "status", batch_id, "--json"]) == Exit.OK
    line = json.loads(capsys.readouterr().out)
    assert line.pop("rate") == pytest.approx(of_late / 1000, rel=0.01)
    assert line.pop("left_s") == pytest.approx(1000 * left / of_late, rel=0.01)
    assert line == {
        "batch": batch_id,
        "state": "running",
        "total": done + left,
        "done": done,
        "failed": 3,
        "submitted": True,
    }


def test_what_cannot_be_told_is_null(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    batch_id = submitted(capsys, 1)
    run(["batch", "status", batch_id, "--json"])
    line = json.loads(capsys.readouterr().out)
    assert (line["rate"], line["left_s"]) == (None, None)
    finish(f"{batch_id}:0", texts(0, 1))
    run(["batch", "status", batch_id, "--json"])
    line = json.loads(capsys.readouterr().out)
    assert (line["rate"], line["left_s"]) == (None, 0.0)


def test_status_notices_a_producer_that_is_gone_and_close_ends_the_wait(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch whose producer died a quarter of an hour ago
    batch_id = submitted(capsys, 2)
    finish(f"{batch_id}:0", texts(0, 2))
    ago = connection.time()[0] - 900
    connection.hset(Keys().batch(batch_id), mapping={"submitted": 0, "heard_at": ago})
    assert run(["batch", "status", batch_id]) == Exit.OK
    said = "still being submitted, though nothing has come for 15 min"
    assert capsys.readouterr().out == f"running: 2 of 2 done, 0 failed; {said}\n"
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    # When it is closed
    capsys.readouterr()
    assert run(["batch", "close", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("", f"blipline: batch {batch_id} is closed; it has 2 items\n")
    # Then it has an end
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert run(["batch", "status", batch_id]) == Exit.OK
    assert capsys.readouterr().out.endswith("done: 2 of 2 done, 0 failed\n")


@pytest.mark.parametrize("last", [{"text": "39"}, NO_IMAGE])
def test_watch_looks_on_until_the_end(
    last: dict[str, Any], finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch that is watched on a terminal
    batch_id = submitted(capsys, 70)
    person, terminal = os.openpty()
    command = [*PROGRAM, "batch", "status", batch_id, "--watch"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment
    ) as process:
        os.close(terminal)
        shown = b""
        while b"0/70" not in shown:
            shown += os.read(person, 4096)
        finish(f"{batch_id}:0", texts(0, 32))
        finish(f"{batch_id}:1", texts(32, 64))
        while not re.search(rb"64/70.* items/s", shown):
            shown += os.read(person, 4096)
        assert process.poll() is None
        # When its last items end
        finish(f"{batch_id}:2", [*texts(64, 69), last])
        out, _ = process.communicate(timeout=20)
    os.close(person)
    # Then the last word is what `status` says
    failed = int("error" in last)
    state = "failed" if failed else "done"
    assert out == f"{state}: 70 of 70 done, {failed} failed\n"
    assert process.returncode == (Exit.SOME_FAILED if failed else Exit.OK)


def test_watch_of_a_cancelled_batch_ends_and_is_not_all_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch_id = submitted(capsys, 1)
    run(["batch", "cancel", batch_id])
    capsys.readouterr()
    assert run(["batch", "status", batch_id, "--watch", "--json"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    assert (json.loads(out)["state"], err) == ("cancelled", "")


def test_retry_asks_again_what_failed_and_prints_how_much(
    finish: Finish, capsys: pytest.CaptureFixture[str], connection: redis.Redis
) -> None:
    batch_id = submitted(capsys, 40)
    finish(f"{batch_id}:0", [*texts(0, 30), NO_IMAGE, NO_IMAGE])
    finish(f"{batch_id}:1", texts(32, 40))
    connection.delete("bulk")
    assert run(["batch", "retry", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("2\n", "")
    assert len(queued(connection)) == 1
    finish(f"{batch_id}:0", texts(0, 32))
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert len(json_lines(capsys.readouterr().out)) == 40
    assert run(["batch", "retry", batch_id, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"batch": batch_id, "items": 0}


def test_retry_goes_on_with_a_batch_that_was_cancelled(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch of which one chunk is done, one was cancelled and one has not begun
    batch_id = submitted(capsys, 96)
    finish(f"{batch_id}:0", texts(0, 32))
    run(["batch", "cancel", batch_id])
    finish(f"{batch_id}:1", [contract.failure("cancelled", "nobody wants it")] * 32)
    assert run(["batch", "results", batch_id]) == Exit.SOME_FAILED
    capsys.readouterr()
    # When it is retried
    assert run(["batch", "retry", batch_id]) == Exit.OK
    assert capsys.readouterr().out == "32\n"
    # Then both are to be run
    for number in (1, 2):
        begun = Ledger(connection).claim(f"{batch_id}:{number}")
        assert (begun.run, begun.cancelled) == (True, False)
        finish(f"{batch_id}:{number}", texts(32 * number, 32 * number + 32))
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert len(json_lines(capsys.readouterr().out)) == 96


def test_a_deleted_batch_is_gone_with_its_results(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submitted(capsys, 40)
    finish(f"{batch_id}:0", texts(0, 32))
    assert run(["batch", "delete", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("", f"blipline: batch {batch_id} is deleted\n")
    assert run(["batch", "status", batch_id]) == Exit.USAGE
    assert not connection.exists(Keys().result(f"{batch_id}:0"))
    assert not connection.zcard(Keys().open)


def test_a_batch_that_nobody_submitted_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "results", "cancel", "retry", "close", "delete"):
        assert run(["batch", verb, "no-such-batch"]) == Exit.USAGE
        assert "no batch no-such-batch" in capsys.readouterr().err


# Signals, pipes and bugs


def test_ctrl_c_says_how_to_go_on_and_the_batch_goes_on(connection: redis.Redis) -> None:
    file = write_lines({"image": URL})
    command = [*PROGRAM, "batch", "submit", file, "--wait", "-o", "out.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not connection.exists("bulk"):
            assert process.poll() is None
        # Submitted; give it the moment to begin to wait.
        threading.Event().wait(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == Exit.INTERRUPTED
    assert "blipline batch results " in err
    assert "Traceback" not in err
    assert os.listdir() == ["items.jsonl"]
    assert not list(connection.scan_iter(Keys().cancelled("*")))


def test_a_reader_that_goes_away_is_no_error_to_talk_about(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["batch", "submit", write_lines({"image": URL})])
    batch_id = capsys.readouterr().out.strip()
    finish(f"{batch_id}:0", [{"text": "a"}])
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "batch", "results", batch_id]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=20)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (Exit.NO_READER, b"")


def test_a_full_disk_behind_stdout_is_told() -> None:
    with open("/dev/full", "wb") as full:
        command = [*PROGRAM, "batch", "submit", write_lines({"image": URL})]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert (ended.returncode, ended.stderr) == (2, b"blipline: stdout: No space left on device\n")


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_one_line_and_a_traceback_only_for_those_who_ask(
    debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_DEBUG", str(int(debug)))
    assert report(KeyError("x")) == Exit.BUG
    err = capsys.readouterr().err
    assert "Please report it" in err
    assert (err.count("\n") > 1) == debug
