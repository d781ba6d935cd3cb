"""`make demo` and `make up`, short of starting the whole system."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from demo import contact_sheet, tour
from demo.__main__ import _port, _show
from demo.stack import ROOT, free_port
from demo.tour import QUESTIONS, Check, Report, Tour
from producer import Client, ErrorCode, ItemError, Match, Result, WaitTimeout
from producer.ledger.leases import Leases

Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def a_tour(image: Path, caption: str = "a red circle", error: ItemError | None = None) -> Tour:
    answers = (Result(1, None, "pink", None), Result(2, None, None if error else "one", error))
    return Tour([Report(image, Result(0, None, caption, None), answers, check(error))], seconds=0.5)


def check(error: ItemError | None = None) -> Check:
    """A red circle beside a green one."""
    matches = [Match("a red circle", 0.99876, 0.5), Match("a green circle", 0.00123, 0.1)]
    return Check("red", "green", Result(3, None, None, error, None if error else matches))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a & b.png"
    Image.new("RGB", (1000, 500), "red").save(path)
    return path


class Page(HTMLParser):
    """The sources that a browser would load, and the elements without an end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_no_other_file_and_is_well_formed(picture: Path) -> None:
    page = Page(contact_sheet.render(a_tour(picture)))
    assert page.open == []
    assert len(page.sources) == 1
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)


def test_nothing_that_the_model_or_a_file_name_says_becomes_html(picture: Path) -> None:
    html = contact_sheet.render(a_tour(picture, caption='<script>"$about'))
    assert "<script>" not in html
    assert "&lt;script&gt;&quot;$about" in html
    assert "a &amp; b.png" in html


def test_the_page_shows_captions_questions_answers_and_pace(picture: Path) -> None:
    html = contact_sheet.render(a_tour(picture))
    for text in ("a red circle", *QUESTIONS, "pink", "1000 by 500"):
        assert text in html
    assert "<dt>items a second</dt><dd>8</dd>" in html


def test_the_page_shows_how_well_the_caption_fits_and_a_wrong_one(picture: Path) -> None:
    html = contact_sheet.render(a_tour(picture))
    assert "<dt>P(match) of the caption</dt><dd>0.999</dd>" in html
    assert "<dt>with “green” instead</dt><dd>0.001</dd>" in html


def test_the_table_shows_the_same(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _show(a_tour(picture))
    out = capsys.readouterr().out
    for text in ("P(match)", "0.999 red", "0.001 green", "4 items in 0.50 s: 8 items a second"):
        assert text in out


def test_without_a_retrieval_model_there_is_no_such_column(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (report,) = a_tour(picture).reports
    tour = Tour([replace(report, check=None)], seconds=0.5)
    _show(tour)
    out = capsys.readouterr().out
    assert "P(match)" not in out + contact_sheet.render(tour)
    assert out.splitlines()[0].count("┳") == 1 + len(QUESTIONS), "a column without a name"


def test_what_failed_says_why(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = a_tour(picture, error=ItemError(code=ErrorCode.IMAGE_INVALID, message="no image"))
    assert failed.failed == 2
    html = contact_sheet.render(failed)
    assert html.count('<dd class="bad">image_invalid: no image</dd>') == 2
    _show(failed)
    assert capsys.readouterr().out.count("image_invalid") == 2


def test_a_file_that_is_no_picture_does_not_spoil_the_page(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    assert "not a picture" in contact_sheet.render(a_tour(broken))


def test_each_picture_is_captioned_and_asked_every_question(
    picture: Path,
) -> None:
    (caption, *questions) = tour._items([picture])
    assert caption == {"image": str(picture), "task": "caption"}
    assert [item["question"] for item in questions] == list(QUESTIONS)
    assert {item["task"] for item in questions} == {"vqa"}


def test_each_caption_is_checked_against_the_wrong_one(
    picture: Path, client: Client, finish: Finish, connection: redis.Redis
) -> None:
    # Given a worker that says "a star" of the first picture, and "a red star" of the second
    def answer(results: list[dict[str, Any]]) -> None:
        taken = connection.brpop(["bulk"], timeout=20)
        assert taken is not None
        task_id = json.loads(taken[1])["headers"]["id"]
        claimed = Leases(connection).claim(task_id)
        assert claimed.payload is not None
        texts.append([item.get("texts") for item in claimed.payload["items"]])
        finish(task_id, results)

    def work() -> None:
        captions = [{"text": "a star"}, {"text": "a red star"}]
        answers = {"text": "one"}, {"text": "pink"}
        answer([result for caption in captions for result in (caption, *answers)])
        match = {"text": "", "probability": 0.5, "cosine": 0.5}
        answer([{"text": "", "matches": [match, match]}])

    texts: list[Any] = []
    done: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    # When the tour is taken
    reports = tour.take(client, [picture, picture], done.append).reports
    thread.join()
    # Then what names a color is checked
    assert texts[1] == [["a red star", "a green star"]]
    assert done == [1, 2, 3, 4, 5, 6, 7]
    assert reports[0].check is None
    assert reports[1].check is not None
    assert reports[1].check.verdicts == (("red", 0.5), ("green", 0.5))


def test_a_tour_that_nobody_answers_ends(
    picture: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "PATIENCE_S", 0.05)
    with pytest.raises(WaitTimeout):
        tour.take(client, [picture], lambda done: None)


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    port = free_port()
    assert _port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert _port(port) != port


def test_a_redis_that_is_away_is_said_at_once_in_a_sentence() -> None:
    environment = os.environ | {"BLIPLINE_REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "demo", "up"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "BLIPLINE_REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def children_of(process: subprocess.Popen[str]) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


@pytest.mark.parametrize(("command", "code"), [("run", 130), ("up", 0)])
def test_ctrl_c_ends_everything_that_was_started(
    command: str, code: int, redis_url: str, tmp_path: Path
) -> None:
    # Given a demo that has claimed to start its processes
    environment = os.environ | {"BLIPLINE_REDIS_URL": redis_url, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "demo", command],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (children := children_of(process)):
            assert process.poll() is None
        # The child exists a moment before the demo knows of it.
        time.sleep(0.5)
        # When it is interrupted, impatiently
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # Then it ends, and nothing of it is left
    assert process.returncode == code
    assert "Traceback" not in err
    assert not [child for child in children if Path("/proc", child).exists()]
    assert not list(tmp_path.iterdir())
