"""Diverse beams: the answers of transformers 4, in rows alone and in mixed batches."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.families import Family, family
from tests.models.traffic import serve, some_beams, some_options, some_sampled_beams
from tests.models.write_diverse_beams import FIXTURE, all_but, prompt_ids, weight_norm
from worker.engine.engine import Engine
from worker.engine.request import GeneratedSequence, GenerationOptions, Request

__all__ = ["family"]

#: A row of the fixture.
Case = dict[str, Any]
PAIRS = GenerationOptions(
    num_beams=4,
    num_beam_groups=2,
    diversity_penalty=0.9,
    num_return_sequences=4,
    output_scores=True,
)


@pytest.fixture(scope="module")
def cases(family: Family, request: pytest.FixtureRequest) -> list[Case]:
    """A fifth of the rows of this family, all with `--exhaustive`.

    Its checkpoint must be that of the fixture.
    """
    fixture = json.loads(FIXTURE.read_text())
    name = next(name for name, norm in fixture["weights"].items() if is_equal(family, norm))
    rows = [row for row in fixture["rows"] if row["family"] == name]
    return rows if request.config.getoption("exhaustive") else rows[::5]


def is_equal(family: Family, norm: float) -> bool:
    return weight_norm(family.network) == pytest.approx(norm, rel=1e-5)


def request_of(family: Family, number: int, case: Case) -> Request:
    options: dict[str, Any] = dict(case["options"])
    options["suppress_tokens"] = tuple(options.get("suppress_tokens", ()))
    if case["allowed"] is not None:
        options["suppress_tokens"] = all_but(family, case["allowed"])
    request = family.request(number, case["image"], case["text"], GenerationOptions(**options))
    assert prompt_ids(family, request) == case["prompt"]
    return replace(request, options=replace(request.options, output_scores=True))


def without_ends(sequences: Sequence[GeneratedSequence], ends: Sequence[int]) -> list[list[int]]:
    """Return the tokens of texts without end tokens, of which transformers 4 shows the first."""
    return [[token for token in each.tokens if token not in ends] for each in sequences]


def assert_expected(family: Family, answer: Any, case: Case) -> None:
    assert answer.error_message == ""
    ends = family.model.decoder.eos_ids
    expected = case["sequences"]
    assert without_ends(answer.sequences, ends) == [each["tokens"] for each in expected], case
    assert [each.is_complete for each in answer.sequences] == [each["ended"] for each in expected]
    request = family.request(0, case["image"], case["text"], GenerationOptions())
    best = [*answer.sequences[0].tokens]
    assert answer.text == family.model.text(request, family.model.prompt(request), best)


def test_each_row_alone_is_that_of_transformers_4(family: Family, cases: list[Case]) -> None:
    assert len(cases) > 6
    engine = Engine(family.model)
    for number, case in enumerate(cases):
        answers = serve(engine, [request_of(family, number, case)], random.Random(0))
        assert_expected(family, answers[number], case)


def test_rows_keep_their_answers_in_a_batch_with_rows_of_every_kind(
    family: Family, cases: list[Case]
) -> None:
    # Given as many rows of other options
    generator = random.Random(5)
    diverse = [request_of(family, number, case) for number, case in enumerate(cases)]
    kinds = [some_beams, some_options, some_sampled_beams]
    others = []
    for number in range(len(cases)):
        options = GenerationOptions(**generator.choice(kinds)(generator))
        others.append(family.request(1000 + number, number % 5, "a red circle", options))
    requests = [*diverse, *others]
    generator.shuffle(requests)
    # When all run at once
    answers = serve(Engine(family.model, max_rows=24, reserved_rows=2), requests, generator)
    # Then none has changed another
    for number, case in enumerate(cases):
        assert_expected(family, answers[number], case)
    for request in others:
        alone = serve(Engine(family.model), [request], random.Random(0))[request.id]
        assert answers[request.id].text == alone.text


def test_rows_of_equal_options_share_a_group_without_touching_each_other(family: Family) -> None:
    # Rows end at different steps: groups that are done wait for the others
    options = replace(PAIRS, max_new_tokens=12, early_stopping=True)
    requests = [family.request(n, n, "how many?", options) for n in range(6)]
    together = serve(Engine(family.model), requests, random.Random(1))
    for request in requests:
        alone = serve(Engine(family.model), [request], random.Random(1))[request.id]
        got = together[request.id].sequences
        assert [each.tokens for each in got] == [each.tokens for each in alone.sequences]
        for each, single in zip(got, alone.sequences, strict=True):
            assert each.logprobs == pytest.approx(single.logprobs, abs=1e-4)


def test_groups_of_one_beam_are_greedy_rows_that_avoid_each_other(family: Family) -> None:
    new, groups, penalty = 5, 3, 1.3
    options = GenerationOptions(
        max_new_tokens=new,
        min_new_tokens=new,
        num_beams=groups,
        num_beam_groups=groups,
        diversity_penalty=penalty,
        num_return_sequences=groups,
        output_scores=True,
    )
    request = family.request(0, 0, "a red circle", options)
    answer = serve(Engine(family.model), [request], random.Random(0))[0]
    expected = greedy_groups(family, request, new, groups, penalty)
    got = {each.tokens: each.logprobs for each in answer.sequences}
    assert got.keys() == expected.keys()
    for tokens, logprobs in expected.items():
        assert got[tokens] == pytest.approx(logprobs, abs=2e-4)


def greedy_groups(
    family: Family, request: Request, new: int, groups: int, penalty: float
) -> dict[tuple[int, ...], list[float]]:
    """Return the tokens of each group and their log-probabilities, from single forward passes."""
    texts: list[list[int]] = [[] for _ in range(groups)]
    logprobs: list[list[float]] = [[] for _ in range(groups)]
    for _ in range(new):
        taken: list[int] = []
        for group, text in enumerate(texts):
            scores = next_scores(family, request, text)
            for token in taken:
                scores[token] -= penalty
            best = int(scores.argmax())
            logprobs[group].append(float(scores.log_softmax(-1)[best]))
            taken.append(best)
        for text, token in zip(texts, taken, strict=True):
            text.append(token)
    return {tuple(text): values for text, values in zip(texts, logprobs, strict=True)}


def next_scores(family: Family, request: Request, text: list[int]) -> torch.Tensor:
    """Return the log-probabilities after `text`, without those of end tokens."""
    vocabulary = list(range(family.decoder.config.vocab_size))
    forced = iter([*([token] for token in text), vocabulary])
    output = family.network.generate(
        **family.inputs(request),
        max_new_tokens=len(text) + 1,
        do_sample=False,
        num_beams=1,
        return_dict_in_generate=True,
        output_logits=True,
        prefix_allowed_tokens_fn=lambda *_: next(forced),
    )
    scores: torch.Tensor = output.logits[-1][0].log_softmax(-1)
    scores[list(family.model.decoder.eos_ids)] = -torch.inf
    return scores


def test_a_stop_text_ends_a_beam_and_not_its_group(family: Family) -> None:
    options = replace(PAIRS, max_new_tokens=9, min_new_tokens=9)
    request = family.request(0, 1, "", options)
    plain = serve(Engine(family.model), [request], random.Random(0))[0].sequences
    stop = plain[0].token_texts[3]
    request = replace(request, options=replace(options, stop=(stop,)))
    answer = serve(Engine(family.model), [request], random.Random(0))[0]
    assert len(answer.sequences) == 4
    ended = [each for each in answer.sequences if each.is_complete]
    assert ended
    for each in answer.sequences:
        # Only the last token completes the stop text
        assert stop not in "".join(each.token_texts[:-1])
        assert each.is_complete == (stop in "".join(each.token_texts))
