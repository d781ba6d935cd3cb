"""The engine: sharing of rows, cancellation, deadlines and statistics."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.workload import Clock, ask, codes, rows_in, run
from worker.engine.engine import Engine
from worker.engine.model import Generator
from worker.engine.request import IMAGE_NEEDED, GenerationOptions


def test_a_lone_request_is_answered_and_leaves_nothing_behind(model: Generator) -> None:
    engine = Engine(model)
    answers = run(engine, ask(1))
    assert answers[1].tokens == 10
    assert answers[1].error_code is None
    assert engine.idle
    assert rows_in(engine) == 0


def test_a_caption_begins_with_its_prompt_and_an_answer_does_not(model: Generator) -> None:
    answers = run(
        Engine(model),
        ask(1, text=" a photo of"),
        ask(2, task="vqa", text="sampled many shapes are there?"),
    )
    assert answers[1].text.startswith("a photo of")
    assert answers[1].text != "a photo of"
    assert "Question" not in answers[2].text


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("unsupported_task", {"task": "match"}),
        ("option_invalid", {"options": GenerationOptions(temperature=-1)}),
        ("option_invalid", {"options": GenerationOptions(min_new_tokens=30)}),
        ("option_invalid", {"text": "lone surrogate \ud800"}),
        ("prompt_too_long", {"text": "long " * 200}),
        ("prompt_too_long", {"options": GenerationOptions(max_new_tokens=125)}),
    ],
)
def test_a_request_that_cannot_be_run_is_answered_alone(
    model: Generator, code: str, fields: dict[str, Any]
) -> None:
    answers = run(Engine(model), ask(1), ask(2, **fields), ask(3))
    assert codes(answers) == [None, code, None]
    assert answers[2].error_message.endswith(".")


def test_the_longest_row_that_fits_is_run(model: Generator) -> None:
    options = GenerationOptions(max_new_tokens=124, min_new_tokens=124)
    assert run(Engine(model), ask(1, options=options), ask(2))[1].tokens == 124


def test_pixels_of_the_wrong_size_are_an_invalid_image(model: Generator) -> None:
    request = ask(1)
    request.pixels = b"\0" * 100
    assert codes(run(Engine(model), request)) == ["image_invalid"]


def test_an_image_is_encoded_once_for_all_questions_about_it(model: Generator) -> None:
    engine = Engine(model)
    run(engine, *(ask(n, image=0, task="vqa", text=f"is it {n}?") for n in range(8)))
    assert engine.stats.encoded_images == 1
    run(engine, ask(9, image=0), ask(10, image=1))
    assert engine.stats.encoded_images == 2
    assert engine.stats.cache_hits == 8


def test_a_known_image_needs_no_pixels_and_gives_the_same_text(model: Generator) -> None:
    engine = Engine(model)
    first = run(engine, ask(1))[1]
    assert engine.has_features(["image-1", "image-2"], "vqa") == {"image-1"}
    repeat = ask(2, image=1)
    repeat.pixels = None
    assert run(engine, repeat)[2].text == first.text


def test_missing_pixels_of_an_unknown_image_are_asked_for(model: Generator) -> None:
    request = ask(1)
    request.pixels = None
    assert codes(run(Engine(model), request, ask(2))) == [IMAGE_NEEDED, None]


def test_features_that_a_waiting_request_counts_on_are_not_lost_by_eviction(
    model: Generator,
) -> None:
    # Given a cache with room for one image, and one row
    probe = Engine(model)
    run(probe, ask(1))
    engine = Engine(model, max_rows=1, feature_bytes=probe.stats.feature_bytes)
    expected = run(engine, ask(1))[1].text
    # When a request without pixels waits behind another image
    request = ask(3, image=1)
    request.pixels = None
    answers = run(engine, ask(2), request)
    # Then it is answered although its features were evicted meanwhile
    assert engine.has_features(["image-1"], "caption") == set()
    assert answers[3].text == expected


def test_a_cache_of_no_bytes_still_serves(model: Generator) -> None:
    answers = run(Engine(model, feature_bytes=0), *(ask(n, image=0) for n in range(3)))
    assert len({answer.text for answer in answers.values()}) == 1
    assert codes(answers) == [None] * 3


def test_a_cancelled_request_ends_at_once_whether_waiting_or_active(model: Generator) -> None:
    engine = Engine(model, max_rows=2, reserved_rows=0)
    for number in range(3):
        engine.add(ask(number))
    assert engine.step() == []  # 0 and 1 are active, 2 waits
    engine.cancel(0)
    engine.cancel(2)
    engine.cancel("unknown")
    answers = run(engine)
    assert codes(answers) == ["cancelled", None, "cancelled"]
    assert answers[1].text == run(Engine(model), ask(1))[1].text


def test_deadlines_end_waiting_and_active_requests(model: Generator) -> None:
    clock = Clock()
    engine = Engine(model, max_rows=2, reserved_rows=0, clock=clock)
    for number, deadline in enumerate([5.0, None, 6.0]):
        engine.add(ask(number, deadline=deadline))
    engine.step()
    clock.now = 5.0
    assert [(answer.id, answer.error_code) for answer in engine.step()] == [
        (0, "deadline_exceeded")
    ]
    clock.now = 7.0
    assert codes(run(engine)) == [None, "deadline_exceeded"]


def test_an_id_is_refused_while_it_is_in_use_and_may_come_again_after(model: Generator) -> None:
    engine = Engine(model)
    engine.add(ask(1))
    with pytest.raises(ValueError, match="already"):
        engine.add(ask(1))
    assert codes(run(engine)) == [None]
    assert codes(run(engine, ask(1))) == [None]


def test_interactive_requests_overtake_bulk(model: Generator) -> None:
    engine = Engine(model, max_rows=2, reserved_rows=1)
    for number in range(6):
        engine.add(ask(number))
    engine.step()
    engine.add(ask(99, interactive=True))
    order = list(run(engine))
    assert order.index(99) == 1  # right after the one bulk row that was active


def test_statistics_count_rows_and_answers(model: Generator) -> None:
    engine = Engine(model, max_rows=4, reserved_rows=0)
    run(engine, *(ask(n) for n in range(4)), ask(9, task="match"))
    stats = engine.stats
    assert (stats.admitted, stats.answered, stats.failed) == (4, 5, 1)
    assert (stats.tokens, stats.row_steps) == (40, 40)
    assert stats.steps == 10
    assert stats.mean_occupancy == 4.0
    assert (stats.active, stats.waiting) == (0, 0)


def test_equal_requests_are_computed_once(model: Generator) -> None:
    engine = Engine(model)
    sampled = GenerationOptions(max_new_tokens=8, temperature=1.0, seed=3)
    answers = run(
        engine, ask(1), *(ask(n, image=1) for n in (2, 3)), ask(4, image=1, options=sampled)
    )
    assert (engine.stats.admitted, engine.stats.joined) == (2, 2)
    assert answers[2].text == answers[3].text == answers[1].text
    assert answers[1].text == run(Engine(model), ask(1))[1].text


def test_unseeded_sampling_is_never_shared(model: Generator) -> None:
    engine = Engine(model)
    run(engine, *(ask(n, image=1, options=GenerationOptions(temperature=1.0)) for n in (1, 2)))
    assert engine.stats.joined == 0


def test_a_shared_row_continues_when_one_of_its_requests_leaves(model: Generator) -> None:
    clock = Clock()
    engine = Engine(model, clock=clock)
    for number, deadline in enumerate([None, 5.0, None]):
        engine.add(ask(number, image=1, deadline=deadline))
    engine.step()
    engine.cancel(0)  # the first request
    clock.now = 5.0
    assert codes(run(engine)) == ["cancelled", "deadline_exceeded", None]
    assert engine.stats.admitted == 1


def test_a_row_ends_when_its_last_request_is_cancelled(model: Generator) -> None:
    engine = Engine(model)
    engine.add(ask(1, image=1))
    engine.add(ask(2, image=1))
    engine.step()
    engine.cancel(1)
    engine.cancel(2)
    assert [answer.error_code for answer in engine.step()] == ["cancelled"] * 2
    assert rows_in(engine) == 0
    # And an equal request afterwards does not join it.
    assert codes(run(engine, ask(3, image=1))) == [None]


def test_a_bulk_row_is_promoted_when_an_equal_interactive_request_joins(model: Generator) -> None:
    engine = Engine(model, max_rows=2, reserved_rows=1)
    for number in range(6):
        engine.add(ask(number))
    engine.step()
    engine.add(ask(99, image=5, interactive=True))
    order = list(run(engine))
    assert order.index(99) <= 2
    assert order.index(5) <= 2
