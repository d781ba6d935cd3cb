"""Descriptions of a collection, and runs that need no worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from producer.cli import annotate as command
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, write_image


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--detail", "high"], {"detail": "high"}),
        (["--prompt", "", "--prompt", "the cat"], {"prompts": ["", "the cat"]}),
        (["--detail", "low", "--prompt", "a"], {"prompts": ["a"], "detail": "low"}),
    ],
)
def test_a_description_has_the_detail_and_the_prompts_of_the_command(
    responder: Responder, tmp_path: Path, options: list[str], fields: dict[str, Any]
) -> None:
    items: list[Mapping[str, Any]] = []

    def text(item: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        items.append(item)
        return "A cat."

    responder.text_of = text
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--task", "describe", *options) == Exit.OK
    (item,) = items
    assert {name: item[name] for name in ("prompts", "detail") if name in item} == fields
    # Other options are other descriptions.
    assert annotate("p", "--task", "describe", *options) == Exit.OK
    assert len(items) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detail", "low"], "add --task describe"),
        (["--prompt", "a", "--prompt", "b"], "a caption has one --prompt"),
        (["--task", "describe", *["--prompt", "a"] * 17], "1 to 16 are needed"),
    ],
)
def test_options_of_descriptions_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", *options) == Exit.USAGE
    assert message in capsys.readouterr().err


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> list[str]:
    """The starts of an embedded Redis and worker, in whose place this Redis is used."""
    started: list[str] = []

    @contextmanager
    def stack(settings: Mapping[str, str], on_note: Any) -> Iterator[str]:
        started.append("start")
        yield redis_url

    monkeypatch.setattr(command, "local_stack", stack)
    return started


def test_a_worker_is_started_for_the_first_request_alone(
    responder: Responder, starts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").mkdir()
    assert annotate("p", "--local") == Exit.OK
    assert (starts, "starting" in capsys.readouterr().err) == ([], False)
    text = write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--local") == Exit.OK
    assert (starts, captions(tmp_path / "p")) == (["start"], {"a.txt": f"{text}\n"})
    # Nothing is new, or a filter drops what is.
    write_image(tmp_path / "p" / "b.png", 2)
    assert annotate("p", "--local", "--where", "width>100") == Exit.OK
    (tmp_path / "p" / "b.png").unlink()
    assert annotate("p", "--local") == Exit.OK
    assert starts == ["start"]
