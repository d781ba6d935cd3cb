"""`blipline match` and `blipline embed`."""

from __future__ import annotations

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import URL, json_lines, queued


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
    assert [match["text"] for match in line["matches"]] == texts
    assert line["matches"][1] == {"text": "a\tcat", "probability": 0.99999, "cosine": 0.4321}


@pytest.mark.usefixtures("workers")
def test_vectors_are_a_line_each_and_null_after_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = ["https://x.org/vector.jpg", "https://x.org/broken.jpg", "https://x.org/vector.png"]
    assert run(["embed", *images]) == Exit.SOME_FAILED
    assert capsys.readouterr().out == "[0.6, -0.8]\nnull\n[0.6, -0.8]\n"
    assert run(["embed", "--text", "a cat", "--text", "a dog", "--json"]) == Exit.OK
    assert json_lines(capsys.readouterr().out) == [
        {"text": text, "status": "ok", "embedding": [0.6, -0.8]} for text in ("a cat", "a dog")
    ]


@pytest.mark.parametrize("arguments", [(), (URL, "--text", "a cat")])
def test_an_embedding_is_of_images_or_of_texts(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", *arguments]) == Exit.USAGE
    assert "--text" in capsys.readouterr().err


@pytest.mark.usefixtures("keeps_jobs")
def test_matches_and_embeddings_have_a_deadline_and_no_options(connection: redis.Redis) -> None:
    for command in (("match", URL, "a cat"), ("embed", URL)):
        assert run([*command, "--deadline-s", "60", "--timeout", "0"]) == Exit.NO_RESULT
        assert run([*command, "--top-k", "3"]) == Exit.USAGE
    assert [list(chunk["options"]) for chunk in queued(connection, "interactive")] == [
        ["deadline"]
    ] * 2
