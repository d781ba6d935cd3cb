"""`blipline describe`."""

from __future__ import annotations

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import URL, json_lines, queued


@pytest.mark.usefixtures("workers")
def test_a_description_is_printed_as_text_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", URL]) == Exit.OK
    assert capsys.readouterr().out == "A medium cat.\n"
    assert run(["describe", URL, "https://x.org/b.jpg", "--detail", "high"]) == Exit.OK
    assert capsys.readouterr().out == f"{URL}\tA high cat.\nhttps://x.org/b.jpg\tA high cat.\n"
    assert run(["describe", URL, "--json"]) == Exit.OK
    (line,) = json_lines(capsys.readouterr().out)
    assert (line["status"], line["words"], line["ranked_by"]) == ("ok", 3, "match")
    assert line["candidates"][0] == {
        "text": "A medium cat.",
        "prompt": "",
        "round": 1,
        "score": 0.9,
        "used": True,
    }
    assert line["warning"] == "not polished"


@pytest.mark.usefixtures("keeps_jobs")
def test_prompts_detail_and_options_reach_the_worker(connection: redis.Redis) -> None:
    options = ["--num-beams", "6", "--temperature", "0.9", "--seed", "1", "--timeout", "0"]
    arguments = ["describe", URL, "--detail", "low", "--prompt", "", "--prompt", "the cat is"]
    assert run([*arguments, *options]) == Exit.NO_RESULT
    (payload,) = queued(connection, "interactive")
    assert payload["items"] == [{"image": URL, "detail": "low", "prompts": ["", "the cat is"]}]
    assert payload["options"] == {"num_beams": 6, "temperature": 0.9, "seed": 1}


@pytest.mark.parametrize("arguments", [("--detail", "huge"), ("--prompt", "a") * 17])
def test_an_invalid_argument_is_named(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["describe", URL, *arguments]) == Exit.USAGE
    assert arguments[0].strip("-") in capsys.readouterr().err
