"""What `make demo` and `make up` do, short of starting the whole system."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from demo import contact_sheet, tour
from demo.__main__ import _port
from demo.stack import ROOT, free_port
from demo.tour import QUESTIONS, Told, Tour, pictures, said
from producer import Client, ErrorCode, ItemError, Result, WaitTimeout


def a_tour(image: Path, caption: str = "a red circle", error: ItemError | None = None) -> Tour:
    answers = (Result(1, None, "pink", None), Result(2, None, None if error else "one", error))
    return Tour([Told(image, Result(0, None, caption, None), answers)], seconds=0.5)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a & b.png"
    Image.new("RGB", (1000, 500), "red").save(path)
    return path


class Page(HTMLParser):
    """What a browser would load, and the elements that were left open."""

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


def test_there_are_sample_pictures_to_show() -> None:
    assert pictures()
    for path in pictures():
        with Image.open(path) as image:
            image.verify()


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
    for shown in ("a red circle", *QUESTIONS, "pink", "1000 by 500"):
        assert shown in html
    assert "<dt>items a second</dt><dd>6</dd>" in html


def test_what_failed_says_why(picture: Path) -> None:
    failed = a_tour(picture, error=ItemError(code=ErrorCode.IMAGE_INVALID, message="no image"))
    assert failed.failed == 1
    html = contact_sheet.render(failed)
    assert '<dd class="bad">image_invalid: no image</dd>' in html


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


def test_a_tour_that_nobody_answers_ends(
    picture: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "PATIENCE_S", 0.05)
    with pytest.raises(WaitTimeout):
        tour.take(client, [picture], lambda done: None)


def test_said_is_the_text_or_the_reason() -> None:
    assert said(Result(0, None, "two", None)) == "two"
    lost = ItemError(code=ErrorCode.INTERNAL, message="lost")
    assert said(Result(0, None, None, lost)) == "internal: lost"


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    wanted = free_port()
    assert _port(wanted) == wanted
    with socket.create_server(("127.0.0.1", wanted)):
        assert _port(wanted) != wanted


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
    # Given a demo that has begun to start its processes
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
