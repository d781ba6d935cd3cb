"""Options of a row in a mixed batch: equal to `generate` on the row alone, in every family."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.models.families import Expected, Family, family
from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import row_counts, serve
from worker.engine.engine import Engine
from worker.engine.request import GeneratedSequence, GenerationOptions, Request

__all__ = ["family"]

IMAGES = 5
TEXTS = ["", "a red circle", "how many?", "is it a photo of the circle, above?"]


def some_options(family: Family, request: Request, generator: random.Random) -> GenerationOptions:
    """Draw options that change the text which the row has without them.

    Fifteen rows have each kind of options with each kind of search.
    """
    new = generator.choice([4, 9, 14])
    how: dict[str, Any] = {"max_new_tokens": new, "repetition_penalty": 1.2}
    kind, search = int(request.id) % 5, int(request.id) // 5 % 3
    if kind < 3:
        (plain,) = family.alone(replace(request, options=GenerationOptions(**how)))
        words = [*map(family.model.token_texts.text, plain.tokens)]
        at = generator.randrange(len(words))
    if kind == 0:
        text = "".join(words)
        start = generator.randrange(len(text))
        how["stop"] = (text[start : start + generator.choice([1, 2, 4])], "no such text")
    if kind == 1:
        pair = "".join(words[at : at + 2]).strip()
        # A word of several tokens has an effect of its own only beside no shorter one.
        banned = (pair,) if search == 0 else (words[at].strip(), pair, "red")
        how["bad_words"] = tuple({word for word in banned if word})
    if kind == 2:
        how["suppress_tokens"] = (plain.tokens[at], 5)
    if kind == 3:
        start = len(family.model.prompt(request).start)
        how |= {"max_length": start + new, "min_length": start + generator.choice([0, 3, new])}
    if search == 1:
        how |= {"num_beams": 3, "num_return_sequences": generator.choice([1, 3])}
    if search == 2:
        how |= {"temperature": 1.3, "seed": generator.randrange(999), "top_k": 40}
    return GenerationOptions(**how, output_scores=(kind + search) % 2 == 0)


def comparable(sequences: Sequence[Expected | GeneratedSequence]) -> list[tuple[int, ...]]:
    return [each.tokens for each in sequences]


def reference_answer(family: Family, request: Request, rows: Sequence[Expected]) -> object:
    """Return the row's tokens if its answer shows them, else its text."""
    if shows_tokens(request.options):
        return comparable(rows)
    return family.model.text(request, family.model.prompt(request), [*rows[0].tokens])


def shows_tokens(options: GenerationOptions) -> bool:
    return options.output_scores or options.num_return_sequences > 1


@pytest.mark.parametrize("rows", row_counts(9, 30))
def test_every_option_in_a_mixed_batch_equals_that_of_the_row_alone(
    family: Family, rows: int
) -> None:
    generator = random.Random(3)
    requests = []
    for number in range(rows):
        image, text = generator.randrange(IMAGES), generator.choice(TEXTS)
        request = family.request(number, image, text, GenerationOptions())
        requests.append(replace(request, options=some_options(family, request, generator)))

    answers = serve(Engine(family.model, max_rows=12, reserved_rows=2), requests, generator)

    assert not [answer.error_message for answer in answers.values() if answer.error_code]
    shown = [answers[request.id] for request in requests]
    alone = [family.alone(request) for request in requests]
    assert_equal_but_for_ties(
        [comparable(each.sequences) if each.sequences else each.text for each in shown],
        [reference_answer(family, *each) for each in zip(requests, alone, strict=True)],
        family.network,
        lambda row: reference_answer(family, requests[row], family.alone(requests[row])),
        max_share=0.07,
    )
    for request, expected in zip(requests, alone, strict=True):
        if request.options.output_scores:
            for got, row in zip(answers[request.id].sequences, expected, strict=True):
                if got.tokens == row.tokens:
                    assert got.logprobs == pytest.approx(row.logprobs, abs=2e-4)
    # Stop texts have ended some of the texts
    ended = [r for r in requests if r.options.stop and r.options.output_scores]
    assert any(answers[r.id].sequences[0].is_complete for r in ended)


def test_a_text_that_a_stop_text_or_an_end_completes_is_distinguished(family: Family) -> None:
    plain = GenerationOptions(max_new_tokens=6, min_new_tokens=6, output_scores=True)
    request = family.request(0, 0, "", plain)
    cut = serve(Engine(family.model, max_rows=2), [request], random.Random(0))[0].sequences[0]
    stop = cut.token_texts[2]
    request.options = replace(plain, stop=(stop,))
    answer = serve(Engine(family.model, max_rows=2), [request], random.Random(0))[0]
    (complete,) = answer.sequences
    assert not cut.is_complete
    assert complete.is_complete
    # The stop text is a part of the text
    assert "".join(complete.token_texts).endswith(stop)
    assert len(complete.tokens) <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suppress_tokens": (10**6,)}, "suppress_tokens: 1000000 is no token"),
        ({"max_length": 1}, "max_length is 1, but the prompt already has"),
        ({"min_length": 90}, "at most 20 are allowed"),
        ({"bad_words": ("\t",)}, "has no tokens"),
    ],
)
def test_an_option_that_the_model_does_not_allow_is_refused(
    family: Family, options: dict[str, Any], message: str
) -> None:
    request = family.request(0, 0, "", GenerationOptions(**options))
    answer = serve(Engine(family.model, max_rows=2), [request], random.Random(0))[0]
    assert answer.error_code == "option_invalid"
    assert message in answer.error_message
