"""The HTML of the page's outputs."""

from __future__ import annotations

import pytest

from producer.contract import ErrorCode, ItemError, Queue
from producer.job import Match, Result
from producer.ledger.records import Depth
from producer.page import views
from producer.results.progress import Progress

HOSTILE = '<script>alert(1)</script>\n\n# a & "b" \''

EVERYTHING = {
    "header": lambda: views.header(HOSTILE, None, can_leave=True),
    "answer": lambda: views.answer(HOSTILE, 1.0),
    "for_image": lambda: views.for_image(f'" onclick="{HOSTILE}', views.WAITING),
    "dialogue": lambda: views.dialogue([(HOSTILE, HOSTILE)], 1.0),
    "question": lambda: views.dialogue([], pending=HOSTILE),
    "bars": lambda: views.bars([Match(HOSTILE, 0.5, 0.5)], 1.0),
    "results": lambda: views.results(
        [
            (HOSTILE, Result(0, HOSTILE, HOSTILE, None)),
            (
                HOSTILE,
                Result(1, HOSTILE, None, ItemError(code=ErrorCode.INTERNAL, message=HOSTILE)),
            ),
        ]
    ),
}


@pytest.mark.parametrize("view", EVERYTHING)
def test_an_external_value_is_text_and_never_a_tag(view: str) -> None:
    html = EVERYTHING[view]()
    assert "<script" not in html
    assert "script" in html


@pytest.mark.parametrize("view", EVERYTHING)
def test_a_view_is_one_line_so_that_markdown_does_not_change_it(view: str) -> None:
    assert "\n" not in EVERYTHING[view]()


def test_the_header_shows_the_queue_depths_if_they_are_known() -> None:
    depth = Depth({Queue.INTERACTIVE: 3, Queue.BULK: 12_000}, running_jobs=2, blob_bytes=0)
    facts = views.facts(depth)
    assert "<dt>open requests</dt><dd>3</dd>" in facts
    assert "<dt>open batch items</dt><dd>12,000</dd>" in facts
    assert "<dt>running jobs</dt><dd>2</dd>" in facts
    assert "<dt>open batch items</dt><dd>-</dd>" in views.facts(None)


def test_the_likeliest_text_comes_first() -> None:
    bars = views.bars([Match("a cat", 0.1, 0), Match("a dog", 0.9, 0)], 0.5)
    assert bars.index("a dog") < bars.index("a cat")


def test_progress_shows_failed_items_and_the_remaining_time() -> None:
    running = Progress(total=10, done=4, failed=1, submitted=True, cancelled=False, rate=2.0)
    assert "Running: 4 of 10 · 1 failed · 3 s left" in views.progress(running, 2.0)
    finished = Progress(total=10, done=10, failed=0, submitted=True, cancelled=False)
    assert "Done: 10 of 10" in views.progress(finished, 2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("a red circle", 3),
        ("  a   red\ncircle. ", 3),
        ("don't look, it's well-known", 4),
        ("it\u2019s 3.5 km", 4),
        ("— … !", 0),
        ("ein roter Kreis über Größe", 5),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, words: int) -> None:
    assert views.words(text) == words


def test_statistics_count_characters_and_words() -> None:
    assert views.statistics("a red circle") == "12 characters · 3 words"
    assert views.statistics("a") == "1 character · 1 word"
    assert views.statistics("") == "0 characters · 0 words"
    assert views.statistics("ab " * 600) == "1,800 characters · 600 words"
