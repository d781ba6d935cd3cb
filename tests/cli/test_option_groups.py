"""The order of options in `--help`."""

from __future__ import annotations

import re

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit


def headlines(help_text: str) -> dict[str, list[str]]:
    """Return the options of a help text under each headline, by their first names."""
    groups: dict[str, list[str]] = {}
    for line in help_text.splitlines():
        if headline := re.fullmatch(r"(\w[^:]*options?[^:]*|Options):", line, re.I):
            groups[headline[1]] = []
        elif groups and (option := re.match(r"  (?:-\w, )?(--[\w-]+)", line)):
            list(groups.values())[-1].append(option[1])
    return groups


def test_the_help_of_annotate_begins_with_the_options_that_matter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["annotate", "--help"]) == Exit.OK
    help_text = capsys.readouterr().out
    first, more, generation = headlines(help_text).values()
    # An argument is no option.
    assert "\n  SOURCE" not in help_text
    assert first[:3] == ["--output", "--format", "--embed"]
    assert {"--ask", "--prompt", "--existing", "--dry-run", "--errors"} <= set(first)
    assert len(first) <= 12
    assert {"--journal", "--separator", "--redis-url", "--json"} <= set(more)
    assert {"--num-beams", "--temperature", "--seed"} <= set(generation)


def test_generation_options_are_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capfilt", "--help"]) == Exit.OK
    groups = headlines(capsys.readouterr().out)
    assert list(groups) == ["Options", "Generation options, as in docs/tasks.md"]
    assert "--threshold" in groups["Options"]
    assert "--top-p" not in groups["Options"]
