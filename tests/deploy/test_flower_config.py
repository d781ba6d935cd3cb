"""Flower's configuration checks its values, requires a login, and shows no secret."""

from __future__ import annotations

import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import flower.events
import pytest
from celery import Celery
from celery.events.receiver import EventReceiver
from celery.events.state import Task as ShownTask

from config.flower_events import MAX_CHARS, RedactingReceiver
from demo.stack import ROOT, free_port
from producer.contract import Task

CONFIG = ROOT / "config" / "flowerconfig.py"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the configuration with these variables, `BLIPLINE_FLOWER_` left out."""
    monkeypatch.setattr(flower.events, "EventReceiver", EventReceiver)

    def load(**variables: str) -> dict[str, Any]:
        for name, value in {"AUTH": "", "PORT": str(free_port()), **variables}.items():
            monkeypatch.setenv(f"BLIPLINE_FLOWER_{name}", value)
        return runpy.run_path(str(CONFIG))

    return load


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        *(({"AUTH": text}, "login 1 must be user:password") for text in ("ann", "ann:", ":x", ",")),
        ({"AUTH": "ann:secret,bob"}, "login 2 must be user:password"),
        *(({"AUTH": text}, "printable ASCII") for text in ("ann:pässword", " ann:x", "ann:x\ty")),
        *(({"PORT": text}, "must be a number") for text in ("", "x", "0", "65536", "-1", "²")),
        *(({"READ_ONLY": text}, "must be true or false") for text in ("maybe", "2")),
        *(({"ADDRESS": text}, "set BLIPLINE_FLOWER_AUTH=user") for text in ("0.0.0.0", "")),
        *(
            ({"AUTH": "ann:secret", "ADDRESS": text}, "cannot listen on")
            for text in ("192.0.2.1", "no.such.host.invalid", "a" * 300)
        ),
        *(({"DB": text}, "cannot be written") for text in ("/proc/x/state", "/tmp", "/a\0b")[:2]),
    ],
)
def test_a_wrong_value_ends_flower_with_one_sentence(
    load: Any, variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(**variables)
    message = str(ended.value)
    assert message.startswith("Flower: ")
    assert sentence in message
    assert "\n" not in message
    assert "secret" not in message


def test_without_a_login_a_random_one_is_printed(
    load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,), (second,) = load()["basic_auth"], load()["basic_auth"]
    assert first != second
    assert len(first) > 20
    assert f"http://{first}@127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "expected"), [("", True), ("true", True), ("false", False)])
def test_the_pages_are_read_only_unless_the_setting_allows_actions(
    load: Any, text: str, expected: bool
) -> None:
    assert load(READ_ONLY=text)["read_only"] is expected


def test_flower_shows_tasks_by_their_short_names(load: Any) -> None:
    format_task = load()["format_task"]
    assert isinstance(format_task, types.FunctionType)
    for task in Task:
        assert format_task(ShownTask(uuid="1", name=task.value)).name == task.short
    assert format_task(ShownTask(uuid="1", name="celery.group")).name == "celery.group"
    assert format_task(ShownTask(uuid="1")).name is None


def test_events_of_other_programs_carry_no_images_and_no_secrets(load: Any) -> None:
    load()
    assert flower.events.EventReceiver is RedactingReceiver
    text = "{'image': 'data:image/png;base64,AAAA', 'x': 'https://u:pw@x.org/?sig=SECRET'}"
    body = {"type": "task-sent", "uuid": "1", "kwargs": text, "args": "y" * 5000, "result": None}
    body["hostname"] = "gen7@host"
    with (
        Celery("flower", broker="memory://", set_as_current=False) as app,
        app.connection() as link,
    ):
        receiver = RedactingReceiver(link, app=app)
        kind, event = receiver.event_from_message({**body, "clock": 1}, localize=False)
    assert kind == "task-sent"
    assert "AAAA" not in event["kwargs"]
    assert "pw" not in event["kwargs"]
    assert "SECRET" not in event["kwargs"]
    assert "https://x.org/" in event["kwargs"]
    assert len(event["args"]) == MAX_CHARS
    assert event["hostname"] == "gen@host"


def test_a_port_in_use_ends_flower_without_a_traceback(redis_url: str, tmp_path: Path) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower"]
    environment = {"BLIPLINE_FLOWER_PORT": port, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(
        [*command, f"--conf={CONFIG}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
    assert "Traceback" not in ended.stderr
