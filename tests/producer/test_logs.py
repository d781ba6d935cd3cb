"""Log lines: their two forms, their fields, and text of users that cannot forge a line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from producer.errors import InvalidInput
from producer.observability.logs import HumanFormatter, JsonFormatter, fields, log_context
from producer.observability.redaction import Redactor
from producer.settings import ProcessSettings

#: Texts that try to begin a line of their own, or to hide one.
FORGERIES = [
    "a\n2026-11-30T00:00:00.000Z INFO gateway[1] x: forged",
    "a\r\nforged",
    *(f"a{char}forged" for char in "\v\f\x1c\x1d\x1e\x85\u2028\u2029"),
    "a\x1b[2K\x1b[1Aforged",
    "a\u202eforged",
    "a\ud800forged",
    "a\x00forged\x08\x7f",
]

#: A process that logs, warns and fails in a thread and in its main one.
PROGRAM = """
import logging, threading, warnings
from producer.observability import logs
from producer.settings import ProcessSettings
logs.configure(ProcessSettings.load(), "program")
logging.getLogger("worker.part").info("own")
logging.getLogger("worker.part").debug("detail")
logging.getLogger("library").info("chatter")
logging.getLogger("library").warning("a key: %s", "polish-key-0123")
warnings.warn("outdated")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
logs.report_failure("program", "it cannot go on")
raise KeyError("the end")
"""


def record(message: str, *args: Any, **values: Any) -> logging.LogRecord:
    made = logging.LogRecord("worker.part", logging.INFO, "f.py", 1, message, args, None)
    made.fields = values
    return made


def failure(message: str) -> logging.LogRecord:
    try:
        raise ValueError(message)
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
        return made


def human(made: logging.LogRecord) -> str:
    return HumanFormatter("consumer", Redactor(["known-secret"])).format(made)


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter("consumer", Redactor(["known-secret"])).format(made)
    assert line.isascii()
    assert line.isprintable()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_line_of_json_has_all_fields() -> None:
    with log_context(job_id="b:3", batch_id="b", chunk=3):
        line = as_json(record("%d done", 2, items=32, codes={"internal": 1}, nothing=None))
    time = line.pop("time")
    assert (time[10], time[-1]) == ("T", "Z")
    assert line == {
        "level": "info",
        "logger": "worker.part",
        "message": "2 done",
        "job_id": "b:3",
        "batch_id": "b",
        "chunk": 3,
        "items": 32,
        "codes": {"internal": 1},
        "process": "consumer",
        "pid": os.getpid(),
    }


def test_a_line_for_people_has_the_same_fields() -> None:
    with log_context(batch_id="b"):
        line = human(record("done", codes={"internal": 1, "poisoned": 2}, path="/a b", seconds=1.5))
    end = f" INFO consumer[{os.getpid()}] worker.part: done batch_id=b"
    assert line.endswith(f'{end} codes=internal:1,poisoned:2 path="/a b" seconds=1.5')


@pytest.mark.parametrize("text", FORGERIES, ids=ascii)
def test_text_of_a_user_cannot_forge_a_line(text: str) -> None:
    for made in (record(text), record("%s", text), record("ok", image=text)):
        assert human(made).isprintable()
        as_json(made)
    first, *trace = human(failure(text)).split("\n")
    assert first.endswith("worker.part: failed")
    assert all(line.startswith("    ") and line.isprintable() for line in trace)
    assert "Traceback" in as_json(failure(text))["exception"]


@pytest.mark.parametrize("secret", ["known-secret", "redis://:hunter2hunter2@host/0"])
def test_secrets_are_redacted_in_each_part_of_a_line(secret: str) -> None:
    for made in (record(secret), record("%s", secret), record("x", path=secret), failure(secret)):
        for text in (human(made), json.dumps(as_json(made))):
            assert "known-secret" not in text
            assert "hunter2" not in text
            assert "***" in text


def test_a_call_with_arguments_that_do_not_fit_is_logged() -> None:
    assert as_json(record("%d items", "many"))["message"] == "%d items ('many',)"


def test_fields_of_a_context_end_with_it() -> None:
    with log_context(job_id="a"), log_context(chunk=1):
        assert as_json(record("x"))["job_id"] == "a"
    assert "job_id" not in as_json(record("x"))
    assert fields(a=1) == {"fields": {"a": 1}}


def run(**settings: str) -> list[str]:
    environment = {**os.environ, "BLIPLINE_POLISH_KEY": "polish-key-0123", **settings}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "polish-key" not in done.stderr
    return done.stderr.splitlines()


def test_every_line_of_a_process_is_json() -> None:
    lines = [json.loads(line) for line in run(BLIPLINE_LOG_FORMAT="JSON")]
    messages = [line["message"] for line in lines]
    assert messages[:2] == ["own", "a key: ***"]
    assert "UserWarning: outdated" in messages[2]
    assert messages[3:] == ["uncaught exception", "it cannot go on", "uncaught exception"]
    assert "ZeroDivisionError" in lines[3]["exception"]
    assert lines[5]["exception"].endswith("KeyError: 'the end'")


@pytest.mark.parametrize(
    ("level", "first"),
    [("debug", ["own", "detail"]), ("warning", ["a key"]), ("error", ["uncaught"])],
)
def test_the_level_selects_lines(level: str, first: list[str]) -> None:
    lines = run(BLIPLINE_LOG_LEVEL=level)
    for line, message in zip(lines, first, strict=False):
        assert message in line


@pytest.mark.parametrize("name", ["log_format", "log_level"])
def test_another_form_or_level_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"BLIPLINE_{name.upper()}='xml': .*'(json|info)'"):
        ProcessSettings.load(**{name: "xml"})
