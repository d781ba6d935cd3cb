"""`blipline batch results`: order, cursors, missing results."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import URL, Finish, json_lines, results_of, submit_batch, write_lines


def test_an_output_file_is_never_incomplete(
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


def test_no_wait_prints_available_results(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["batch", "submit", write_lines(*[{"image": URL}] * 40)])
    batch_id = capsys.readouterr().out.strip()
    finish(f"{batch_id}:0", [{"text": "a"}] * 32)
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    assert len(json_lines(capsys.readouterr().out)) == 32


def test_results_in_order_continue_after_a_number_of_lines(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submit_batch(capsys, 70)
    finish(f"{batch_id}:0", results_of(0, 32))
    finish(f"{batch_id}:1", results_of(32, 64))
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    out, err = capsys.readouterr()
    assert f"blipline batch results {batch_id} --cursor 64\n" in err
    finish(f"{batch_id}:2", results_of(64, 70))
    for cursor in (64, 33, 70):
        assert run(["batch", "results", batch_id, "--cursor", str(cursor)]) == Exit.OK
        rest = capsys.readouterr().out
        assert len(rest.splitlines()) == 70 - cursor
        if cursor == 64:
            whole = json_lines(out + rest)
            assert [line["custom_id"] for line in whole] == [f"c{n}" for n in range(70)]
            assert {*whole[0]} == {"custom_id", "status", "text"}


def test_an_incomplete_file_is_written_again_from_the_same_cursor(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submit_batch(capsys, 40)
    finish(f"{batch_id}:0", results_of(0, 32))
    command = ["batch", "results", batch_id, "--cursor", "5", "--no-wait", "-o", "out.jsonl"]
    assert run(command) == Exit.NO_RESULT
    assert f"blipline batch results {batch_id} --cursor 5\n" in capsys.readouterr().err


def test_results_as_completed_contain_the_index_and_the_cursor(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch whose last and shorter chunk ended first
    batch_id = submit_batch(capsys, 70)
    finish(f"{batch_id}:2", results_of(64, 70))
    finish(f"{batch_id}:0", results_of(0, 32))
    command = ["batch", "results", batch_id, "--as-completed"]
    assert run([*command, "--no-wait"]) == Exit.NO_RESULT
    out, err = capsys.readouterr()
    lines = json_lines(out)
    assert [line["index"] for line in lines] == [*range(64, 70), *range(32)]
    assert {line["custom_id"] for line in lines} == {f"c{line['index']}" for line in lines}
    assert f"{batch_id} --as-completed --cursor {lines[-1]['cursor']}\n" in err
    # Then the cursor of any line continues after it
    finish(f"{batch_id}:1", results_of(32, 64))
    for position in (2, 5, 6, 37):
        assert run([*command, "--cursor", str(lines[position]["cursor"])]) == Exit.OK
        rest = json_lines(capsys.readouterr().out)
        expected = [line["index"] for line in lines[position + 1 :]] + [*range(32, 64)]
        assert [line["index"] for line in rest] == expected


def test_a_cancelled_batch_as_completed_ends_with_an_error_code(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submit_batch(capsys, 40)
    finish(f"{batch_id}:1", results_of(32, 40))
    run(["batch", "cancel", batch_id])
    capsys.readouterr()
    assert run(["batch", "results", batch_id, "--as-completed"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    # The chunk that had a result, and then the cancelled one
    assert [line["status"] for line in json_lines(out)] == ["ok"] * 8 + ["error"] * 32
    assert "32 of 40 items failed" in err
