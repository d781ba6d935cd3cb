"""`blipline caption` and `blipline ask`."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import URL, json_lines, queued


@pytest.mark.usefixtures("workers")
def test_a_single_image_prints_its_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_json_has_a_line_for_each_image_and_also_for_a_failed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["caption", "--json", URL, "missing.jpg"]) == Exit.SOME_FAILED
    good, bad = json_lines(capsys.readouterr().out)
    assert good == {"image": URL, "status": "ok", "text": "about cat.jpg"}
    assert (bad["status"], bad["error"]["code"]) == ("error", "image_unreachable")


@pytest.mark.parametrize("image", ["missing.jpg", ".", "*.jpg"])
def test_without_a_valid_image_nothing_is_submitted(image: str, connection: redis.Redis) -> None:
    assert run(["caption", image]) == Exit.USAGE
    assert not queued(connection, "interactive")


@pytest.mark.usefixtures("keeps_jobs")
def test_the_payload_contains_options_without_defaults(connection: redis.Redis) -> None:
    adapted = ["--adapter", "red"]
    assert run(["caption", URL, "--top-k", "3", "--timeout", "0", *adapted]) == Exit.NO_RESULT
    (payload,) = queued(connection, "interactive")
    assert payload["options"] == {"top_k": 3}
    assert payload["items"] == [{"image": URL, "adapter": "red"}]


@pytest.mark.usefixtures("keeps_jobs")
@pytest.mark.parametrize(("flag", "value"), [("", True), ("-never", "never")])
def test_a_boolean_option_is_a_flag(connection: redis.Redis, flag: str, value: bool | str) -> None:
    command = ["caption", URL, "--num-beams", "3", f"--early-stopping{flag}", "--timeout", "0"]
    assert run(command) == Exit.NO_RESULT
    (payload,) = queued(connection, "interactive")
    assert payload["options"] == {"num_beams": 3, "early_stopping": value}


@pytest.mark.usefixtures("keeps_jobs")
def test_an_option_that_is_a_list_may_be_repeated(connection: redis.Redis) -> None:
    lists = ["--stop", ".", "--stop", "!", "--suppress-tokens", "7", "--no-do-sample"]
    assert run(["caption", URL, *lists, "--timeout", "0"]) == Exit.NO_RESULT
    (payload,) = queued(connection, "interactive")
    expected = {"stop": [".", "!"], "suppress_tokens": [7], "do_sample": False}
    assert payload["options"] == expected


@pytest.mark.parametrize("option", [("--top-p", "0"), ("--seed", "x"), ("--max-new-tokens", "0")])
def test_an_option_out_of_range_is_rejected(option: tuple[str, str]) -> None:
    assert run(["caption", URL, *option]) == Exit.USAGE
