from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import Generator, Prompt
from worker.engine.request import IMAGE_NEEDED, Answer, GenerationOptions, Request
from worker.engine.warmup import warm_up


class Meddled:
    """A model whose methods can be replaced, one by one."""

    def __init__(self, model: Generator, **changed: Callable[..., Any]) -> None:
        self._model = model
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


LONG = GenerationOptions(max_new_tokens=10, min_new_tokens=10)


def ask(number: int, image: int | None = None, **fields: Any) -> Request:
    shade = number if image is None else image
    pixels = bytes([10 + 20 * shade % 240, 90, 200 - 9 * shade % 200] * 16 * 16)
    given = {"task": "caption", "text": "", "options": LONG} | fields
    return Request(id=number, image_hash=f"image-{shade}", pixels=pixels, **given)


def run(engine: Engine, *requests: Request) -> dict[int | str, Answer]:
    for request in requests:
        engine.add(request)
    answers: dict[int | str, Answer] = {}
    for _ in range(500):
        if engine.idle:
            return answers
        for answer in engine.step():
            assert answer.id not in answers
            answers[answer.id] = answer
    raise AssertionError("the engine never became idle")


def rows_held(engine: Engine) -> int:
    assert engine.decoding is not None
    return engine.decoding.slots.count + sum(lane.active + lane.waiting for lane in engine.lanes)


def codes(answers: dict[int | str, Answer]) -> list[str | None]:
    return [answers[number].error_code for number in sorted(answers, key=str)]


def test_a_lone_request_is_answered_and_leaves_nothing_behind(model: Generator) -> None:
    engine = Engine(model)
    answers = run(engine, ask(1))
    assert answers[1].tokens == 10
    assert answers[1].error_code is None
    assert engine.idle
    assert rows_held(engine) == 0


def test_a_caption_begins_with_its_prompt_and_an_answer_does_not(model: Generator) -> None:
    answers = run(
        Engine(model),
        ask(1, text=" a photo of"),
        ask(2, task="vqa", text="how many shapes are there?"),
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
        ("prompt_too_long", {"options": GenerationOptions(max_new_tokens=124)}),
    ],
)
def test_a_request_that_cannot_be_run_is_answered_alone(
    model: Generator, code: str, fields: dict[str, Any]
) -> None:
    answers = run(Engine(model), ask(1), ask(2, **fields), ask(3))
    assert codes(answers) == [None, code, None]
    assert answers[2].error_message.endswith(".")


def test_the_longest_row_that_fits_is_run(model: Generator) -> None:
    options = GenerationOptions(max_new_tokens=123, min_new_tokens=123)
    assert run(Engine(model), ask(1, options=options), ask(2))[1].tokens == 123


def test_pixels_of_the_wrong_size_are_an_invalid_image(model: Generator) -> None:
    request = ask(1)
    request.pixels = b"\0" * 100
    assert codes(run(Engine(model), request)) == ["image_invalid"]


def test_an_image_is_encoded_once_for_all_questions_about_it(model: Generator) -> None:
    engine = Engine(model)
    run(engine, *(ask(n, image=0, task="vqa", text=f"is it {n}?") for n in range(8)))
    assert engine.figures.encoded_images == 1
    run(engine, ask(9, image=0), ask(10, image=1))
    assert engine.figures.encoded_images == 2
    assert engine.figures.cache_hits == 8


def test_a_known_image_needs_no_pixels_and_gives_the_same_text(model: Generator) -> None:
    engine = Engine(model)
    first = run(engine, ask(1))[1]
    assert engine.has_features(["image-1", "image-2"], "vqa") == {"image-1"}
    again = ask(2, image=1)
    again.pixels = None
    assert run(engine, again)[2].text == first.text


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
    engine = Engine(model, max_rows=1, feature_bytes=probe.figures.feature_bytes)
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


def test_an_image_the_encoder_cannot_take_fails_alone(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        if (pixels[:, 0, 0, 0] == 10).any():
            raise RuntimeError("bad image")
        return model.encode(pixels)

    engine = Engine(Meddled(model, encode=encode))
    answers = run(engine, *(ask(n, image=n % 4) for n in range(8)))
    assert codes(answers) == ["internal", None, None, None] * 2
    assert "bad image" in answers[0].error_message


def test_a_row_that_cannot_be_prefilled_fails_alone(model: Generator) -> None:
    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(len(prompt.start) > 20 for prompt in prompts):
            raise RuntimeError("no kernel")
        return model.prefill(features, prompts, slots)

    bad = ask(3, text="a very long prompt with far too many words")
    requests = [*(ask(n) for n in range(3)), bad, *(ask(n) for n in range(4, 8))]
    answers = run(Engine(Meddled(model, prefill=prefill)), *requests)
    assert codes(answers) == [None] * 3 + ["internal"] + [None] * 4
    alone = {n: run(Engine(model), ask(n))[n].text for n in (2, 4)}
    assert {n: answers[n].text for n in (2, 4)} == alone


def test_a_row_that_cannot_be_decoded_fails_alone(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        if any(length == 8 for length in slots.lengths[start:stop]):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.decode(slots, start, stop)

    bad = ask(1, text="")  # 5 tokens of prompt: the others never have a length of 8
    others = [ask(n, text=" a photo of a red circle above") for n in (0, 2, 3)]
    answers = run(Engine(Meddled(model, decode=decode)), others[0], bad, *others[1:])
    assert codes(answers) == [None, "out_of_memory", None, None]
    expected = run(Engine(model), *others)
    assert {n: answers[n].text for n in (0, 2, 3)} == {n: a.text for n, a in expected.items()}


def test_numbers_that_are_not_finite_harm_neither_neighbours_nor_successors(
    model: Generator,
) -> None:
    poisoned = True

    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        if poisoned:
            features[pixels[:, 0, 0, 0] == 70] = torch.nan  # request 3
        return features

    # Given a poisoned row in the last slot, where no other row moves in, with a long prompt, so
    # that the slot holds more than a short row writes
    requests = [ask(n, text=" a photo of a red circle above") for n in range(4)]
    engine = Engine(Meddled(model, encode=encode), max_rows=4, feature_bytes=0, reserved_rows=0)
    answers = run(engine, *requests)
    assert codes(answers) == [None, None, None, "internal"]
    clean = run(Engine(model), *requests)
    assert [answers[n].text for n in range(3)] == [clean[n].text for n in range(3)]
    # When a short row takes that slot, beside longer ones: attention then reaches past its end
    poisoned = False
    for request in requests[:3]:
        engine.add(request)
    engine.step()
    late = ask(3, interactive=True)
    assert run(engine, late)[3] == run(Engine(model), late)[3]


def test_a_broken_device_ends_the_step(model: Generator) -> None:
    def decode(slots: Any, start: int, stop: int) -> Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with pytest.raises(torch.AcceleratorError):
        run(Engine(Meddled(model, decode=decode)), ask(1))


def test_figures_count_what_happened(model: Generator) -> None:
    engine = Engine(model, max_rows=4, reserved_rows=0)
    run(engine, *(ask(n) for n in range(4)), ask(9, task="match"))
    figures = engine.figures
    assert (figures.admitted, figures.answered, figures.failed) == (4, 5, 1)
    assert (figures.tokens, figures.row_steps) == (40, 40)
    assert figures.steps == 10
    assert figures.mean_occupancy == 4.0
    assert (figures.active, figures.waiting) == (0, 0)


def test_warming_up_measures_a_prefill_and_leaves_the_engine_empty(model: Generator) -> None:
    engine = Engine(model, max_rows=4)
    warm_up(engine)
    assert engine.decoding is not None
    assert 0 <= engine.decoding.scheduler.prefill_steps <= 4
    assert engine.idle
    assert rows_held(engine) == 0
    assert codes(run(engine, ask(1))) == [None]


def test_warming_up_says_when_the_rows_do_not_fit(model: Generator) -> None:
    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(LoadError, match="fewer rows"):
        warm_up(Engine(Meddled(model, prefill=prefill), max_rows=4))


def test_requests_that_ask_the_same_are_computed_once(model: Generator) -> None:
    engine = Engine(model)
    how = GenerationOptions(max_new_tokens=8, temperature=1.0, seed=3)
    answers = run(engine, ask(1), *(ask(n, image=1) for n in (2, 3)), ask(4, image=1, options=how))
    assert (engine.figures.admitted, engine.figures.joined) == (2, 2)
    assert answers[2].text == answers[3].text == answers[1].text
    assert answers[1].text == run(Engine(model), ask(1))[1].text


def test_unseeded_sampling_is_never_shared(model: Generator) -> None:
    engine = Engine(model)
    run(engine, *(ask(n, image=1, options=GenerationOptions(temperature=1.0)) for n in (1, 2)))
    assert engine.figures.joined == 0


def test_what_others_wait_for_goes_on_when_one_of_them_leaves(model: Generator) -> None:
    clock = Clock()
    engine = Engine(model, clock=clock)
    for number, deadline in enumerate([None, 5.0, None]):
        engine.add(ask(number, image=1, deadline=deadline))
    engine.step()
    engine.cancel(0)  # the one that came first
    clock.now = 5.0
    assert codes(run(engine)) == ["cancelled", "deadline_exceeded", None]
    assert engine.figures.admitted == 1


def test_a_row_that_nobody_waits_for_any_more_ends(model: Generator) -> None:
    engine = Engine(model)
    engine.add(ask(1, image=1))
    engine.add(ask(2, image=1))
    engine.step()
    engine.cancel(1)
    engine.cancel(2)
    assert [answer.error_code for answer in engine.step()] == ["cancelled"] * 2
    assert rows_held(engine) == 0
    # And who asks the same afterwards is not joined to it.
    assert codes(run(engine, ask(3, image=1))) == [None]


def test_a_bulk_row_becomes_urgent_when_somebody_waits_for_the_same(model: Generator) -> None:
    engine = Engine(model, max_rows=2, reserved_rows=1)
    for number in range(6):
        engine.add(ask(number))
    engine.step()
    engine.add(ask(99, image=5, interactive=True))
    order = list(run(engine))
    assert order.index(99) <= 2
    assert order.index(5) <= 2


BEAMS = GenerationOptions(max_new_tokens=6, num_beams=3)


def test_beam_search_runs_beside_rows_that_are_decoded_in_flight(model: Generator) -> None:
    # Given rows that decode, and a group of beams
    engine = Engine(model, max_rows=9)
    requests = [ask(n, options=BEAMS if n % 2 else LONG) for n in range(8)]
    answers = run(engine, *requests)
    assert codes(answers) == [None] * 8
    # Then the steps of the group were steps of the others as well
    assert engine.figures.steps < 6 + 6 + 10
    for request in requests:
        assert run(Engine(model), request)[request.id].text == answers[request.id].text


def test_a_group_of_beams_ends_when_nobody_waits_for_it(model: Generator) -> None:
    engine = Engine(model)
    long = GenerationOptions(max_new_tokens=100, min_new_tokens=100, num_beams=2)
    for number in range(3):
        engine.add(ask(number, options=long))
    engine.step()
    for number in range(3):
        engine.cancel(number)
    steps = engine.figures.steps
    assert codes(run(engine)) == ["cancelled"] * 3
    assert engine.figures.steps - steps < 5
    assert rows_held(engine) == 0


def test_a_row_that_beam_search_cannot_run_fails_alone(model: Generator) -> None:
    def generate(features: Tensor, prompts: list[Prompt], *how: Any) -> Any:
        if features[:, 0, 0].max() > 1e6:
            raise RuntimeError("no kernel")
        return model.generate(features, prompts, *how)

    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        features[pixels[:, 0, 0, 0] == 70] = 1e7  # request 3
        return features

    meddled = Meddled(model, generate=generate, encode=encode)
    answers = run(Engine(meddled), *(ask(n, options=BEAMS) for n in range(6)))
    assert codes(answers) == [None, None, None, "internal", None, None]
    assert answers[5].text == run(Engine(model), ask(5, options=BEAMS))[5].text


def test_numbers_that_are_not_finite_are_no_beams(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        features[pixels[:, 0, 0, 0] == 70] = torch.nan  # request 3
        return features

    engine = Engine(Meddled(model, encode=encode))
    answers = run(engine, *(ask(n, options=BEAMS) for n in range(5)))
    assert codes(answers) == [None, None, None, "internal", None]


def test_a_long_prompt_does_not_pad_the_short_ones(model: Generator) -> None:
    widths = []

    def prefill(features: Tensor, prompts: list[Prompt], slots: Any) -> Tensor:
        widths.append((len(prompts), max(len(prompt.start) for prompt in prompts)))
        return model.prefill(features, prompts, slots)

    long = ask(9, text=" a photo of" * 30)
    engine = Engine(Meddled(model, prefill=prefill))
    answers = run(engine, *(ask(n) for n in range(6)), long)
    assert [rows for rows, _ in widths] == [6, 1]
    assert answers[9].text == run(Engine(model), long)[9].text


def test_one_long_row_that_memory_cannot_hold_fails_alone(
    model: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, max_rows=4)
    monkeypatch.setattr("worker.engine.slots.free_bytes", lambda device: 2**17)
    long = ask(1, options=GenerationOptions(max_new_tokens=90, min_new_tokens=90))
    answers = run(engine, ask(0), long, ask(2))
    assert codes(answers) == [None, "out_of_memory", None]
