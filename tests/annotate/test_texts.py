"""Texts: prefix and suffix, replacements, banned phrases, several captions, existing captions."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from producer.cli.exit_codes import Exit
from producer.contract import Options
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, write_image


def test_prefix_suffix_and_replacements_apply_in_order(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "cats" / "a.png", 1)
    responder.text_of = lambda item, options: "arafed a cat, a cat"
    arguments = ["--prefix", "{folder}/{stem} {{x}}: ", "--suffix", ", {number}"]
    replacements = ["--replace", "^arafed ", "", "--replace", r"(c)at\b", r"\1ar"]
    assert annotate("p", *arguments, *replacements) == Exit.OK
    assert captions(tmp_path / "p") == {"cats/a.txt": "cats/a {x}: a car, a car, 1\n"}


def test_columns_of_a_table_are_placeholders(responder: Responder, tmp_path: Path) -> None:
    text = write_image(tmp_path / "a.png", 1)
    Path("in.csv").write_text("path,artist\na.png,Ann\n")
    assert annotate("in.csv", "-o", "out.jsonl", "--suffix", " by {artist}") == Exit.OK
    assert json_lines(Path("out.jsonl"))[0]["text"] == f"{text} by Ann"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prefix", "{nonsense}"], "{nonsense}: no such placeholder"),
        (["--replace", "(", ""], "--replace '(' '': "),
        (["--replace", "a", r"\1"], "invalid group reference"),
        (["--where", "wide"], "write FIELD OPERATOR VALUE"),
        (["--where", "width>x"], "'x' is not a finite number"),
        (["--where", "name~("], "--where 'name~('"),
        (["--ask", " "], "the question is empty"),
        (["--ask", "what?", "--captions", "2"], "--ask cannot be combined"),
        (["--ask", "what?", "--task", "describe"], "--ask cannot be combined"),
        (["--prefix", "{}"], "{}: no such placeholder"),
        (["--local", "--redis-url", "redis://x"], "--local starts a Redis of its own"),
        (["--model", "null"], "--model is for --local"),
        *(
            (["-o", "x.jsonl", "--text-column", name], "--text-column")
            for name in ("", "file_name", "texts", "answers")
        ),
        *((["--errors", path, "-o", "x.jsonl"], f"{path}: ") for path in ("p", "p/a.png/x")),
        (["--errors", "pipe", "-o", "x.jsonl"], "pipe: not a regular file"),
        (["--temperature", "nan"], "is not a finite number"),
        (["-o", "out.xyz"], "choose its form with --format"),
        (["--format", "csv"], "needs a file: -o FILE"),
        (["-o", "-"], "names a file or folder"),
        (["--ban", " "], "--ban: the phrase is empty"),
        (["s3://bucket/photos"], "s3://bucket/photos: no folder is beside its images"),
        (["--null"], "add the source -"),
        (["missing"], "missing: no such file or folder"),
        (["--temperature", "0.001"], "temperature=0.001"),
    ],
)
def test_a_wrong_option_is_named_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    os.mkfifo("pipe")
    assert annotate("p", *arguments) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert captions(tmp_path / "p") == {}
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_the_largest_seed_has_further_captions(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    options = ["--seed", str(2**63 - 1), "--captions", "3", "--ban", "nothing"]
    assert annotate("p", "-o", "x.jsonl", *options) == Exit.OK
    assert len(json_lines(Path("x.jsonl"))[0]["texts"]) == 3


def test_a_replacement_has_flags(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--replace", "(?i)PICTURE (?P<hash>.+)", r"\g<hash>!") == Exit.OK
    (text,) = captions(tmp_path / "p").values()
    assert text.endswith("!\n")
    assert "picture" not in text


def test_a_banned_phrase_is_regenerated_under_another_seed(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    write_image(tmp_path / "p" / "b.png", 2)
    seeds: list[Any] = []

    def text(item: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        seeds.append(options.get("seed"))
        return "a photo of ARAFED things" if len(seeds) < 4 else "arafeds"

    responder.text_of = text
    assert annotate("p", "--ban", "arafed", "--seed", "5", "--num-beams", "4") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "arafeds\n", "b.txt": "arafeds\n"}
    assert seeds[:2] == [5, 5]
    assert set(seeds[2:]) <= {1005, 2005}


def test_an_image_whose_texts_are_all_banned_fails(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    responder.text_of = lambda item, options: "arafed"
    arguments = ["--ban", "arafed", "--ban-tries", "3", "--errors", "errors.jsonl"]
    assert annotate("p", *arguments) == Exit.SOME_FAILED
    assert json_lines(Path("errors.jsonl"))[0]["error"] == {
        "code": "banned_phrase",
        "message": "each of 3 texts has a banned phrase",
    }
    assert (responder.answers, captions(tmp_path / "p")) == (3, {})


def test_several_captions_have_different_random_numbers(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    responder.text_of = lambda item, options: f"{options.get('temperature')} {options.get('seed')}"
    assert annotate("p", "--captions", "3") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "None None\n1.0 1\n1.0 2\n"}
    assert annotate("p", "--captions", "3", "-o", "out.jsonl") == Exit.OK
    assert json_lines(Path("out.jsonl"))[0]["texts"] == ["None None", "1.0 1", "1.0 2"]


def test_several_questions_are_answered_in_turn(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    responder.text_of = lambda item, options: item["question"].upper()
    questions = ["--ask", "how many?", "--ask", "which color?"]
    assert annotate("p", *questions, "-o", "out.jsonl") == Exit.OK
    assert json_lines(Path("out.jsonl"))[0]["answers"] == [
        {"question": "how many?", "text": "HOW MANY?"},
        {"question": "which color?", "text": "WHICH COLOR?"},
    ]
    assert annotate("p", *questions, "--prefix", "{question} ") == Exit.OK
    assert captions(tmp_path / "p")["a.txt"] == "how many? HOW MANY?\nwhich color? WHICH COLOR?\n"


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ("skip", "mine\n"),
        ("overwrite", "a text\n"),
        ("append", "mine, a text\n"),
        ("prepend", "a text, mine\n"),
        ("keep-both", "mine\na text\n"),
    ],
)
def test_existing_captions(
    responder: Responder, tmp_path: Path, existing: str, expected: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    write_image(tmp_path / "p" / "b.png", 2)
    (tmp_path / "p" / "a.txt").write_text("mine\n")
    responder.text_of = lambda item, options: "a text"
    # A second run of the same command changes nothing.
    for _ in range(2):
        assert annotate("p", "--existing", existing) == Exit.OK
        assert captions(tmp_path / "p") == {"a.txt": expected, "b.txt": "a text\n"}
    assert responder.answers == (1 if existing == "skip" else 2)


def test_other_options_replace_own_captions_on_demand_only(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    (tmp_path / "p" / "a.txt").write_text("mine")
    responder.text_of = lambda item, options: "a text"
    annotate("p", "--existing", "append")
    assert annotate("p", "--suffix", "!") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "mine, a text\n"}
    # The text of the earlier run is replaced, not appended to.
    assert annotate("p", "--suffix", "!", "--existing", "append") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "mine, a text!\n"}
    assert responder.answers == 1
    # A caption that a person has edited since is theirs.
    (tmp_path / "p" / "a.txt").write_text("edited")
    assert annotate("p", "--suffix", "?", "--existing", "append") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "edited, a text?\n"}


def test_a_run_that_dies_between_old_and_new_captions_appends_once(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    (tmp_path / "p" / "a.txt").write_text("mine")
    responder.text_of = lambda item, options: "a text"
    assert annotate("p", "--existing", "append") == Exit.OK
    responder.text_of = lambda item, options: None
    assert annotate("p", "--existing", "append", "--num-beams", "2") == Exit.SOME_FAILED
    responder.text_of = lambda item, options: "other"
    arguments = ["--existing", "append", "--num-beams", "2", "--retry-failed"]
    assert annotate("p", *arguments) == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "mine, other\n"}


def test_descriptions_have_the_prompt_as_that_of_their_first_round(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    responder.text_of = lambda item, options: " and ".join(item["prompts"])
    assert annotate("p", "--task", "describe", "--prompt", "there is") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "there is\n"}


@pytest.mark.parametrize("task", ["vqa", "chat", "match", "embed", "capfilt"])
def test_only_tasks_that_need_the_image_alone_are_offered(
    responder: Responder, tmp_path: Path, task: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--task", task) == Exit.USAGE


@pytest.mark.parametrize("arguments", [(), ("--task", "describe"), ("--ask", "why?")])
def test_an_adapter_writes_the_texts(
    responder: Responder, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    responder.text_of = lambda item, options: f"by {item.get('adapter')}"
    assert annotate("p", *arguments) == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "by None\n"}
    # Another adapter is another text, which the journal does not have.
    assert annotate("p", *arguments, "--adapter", "red", "-o", "out") == Exit.OK
    assert captions(tmp_path / "out") == {"a.txt": "by red\n"}


def test_a_name_that_no_adapter_has_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--adapter", "a/b") == Exit.USAGE
    assert "adapter='a/b'" in capsys.readouterr().err


def test_a_banned_phrase_of_diverse_beams_is_sampled_again(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    groups = ["--num-beams", "4", "--num-beam-groups", "2", "--diversity-penalty", "1"]

    def text(item: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        assert Options(**options).combination_error() is None
        return "arafed" if options.get("num_beam_groups") else "a cat"

    responder.text_of = text
    assert annotate("p", "--ban", "arafed", *groups) == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": "a cat\n"}
