"""The sampler against transformers' own logits processors, row by row."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from worker.engine.request import GenerationOptions
from worker.engine.sampler import NOT_FINITE_TOKEN, Sampler

VOCABULARY = 40
EOS = [2, 7]
CPU = torch.device("cpu")


def new_sampler(suppressed: Sequence[int] = ()) -> Sampler:
    return Sampler(VOCABULARY, EOS, CPU, suppressed)


def reference_token(logits: Tensor, options: GenerationOptions, prompt: int, ids: list[int]) -> int:
    """Return transformers' token for one row, with processors in the order of `generate`.

    Sampling draws from torch's global generator, as `generate` does.
    """
    o = options
    processors = LogitsProcessorList()
    if o.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(o.repetition_penalty))
    if o.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(o.no_repeat_ngram_size))
    if o.min_new_tokens:
        processors.append(MinNewTokensLengthLogitsProcessor(prompt, o.min_new_tokens, EOS))
    if o.temperature:
        processors.append(TemperatureLogitsWarper(o.temperature))
    if o.temperature and o.top_k:
        processors.append(TopKLogitsWarper(o.top_k))
    if o.temperature and o.top_p < 1:
        processors.append(TopPLogitsWarper(o.top_p))
    if o.temperature and o.min_p:
        processors.append(MinPLogitsWarper(o.min_p))
    if o.temperature and o.typical_p < 1:
        processors.append(TypicalLogitsWarper(o.typical_p))
    if o.temperature and o.epsilon_cutoff:
        processors.append(EpsilonLogitsWarper(o.epsilon_cutoff))
    if o.temperature and o.eta_cutoff:
        processors.append(EtaLogitsWarper(o.eta_cutoff))
    scores = processors(torch.LongTensor([ids]), logits[None].float())
    if o.temperature:
        return int(torch.multinomial(scores.softmax(-1), 1))
    return int(scores.argmax(-1))


def logits_of(row: int, step: int) -> Tensor:
    """Few likely tokens, so that repetition and ends come up often."""
    generator = torch.Generator().manual_seed(1000 * row + step)
    logits = torch.randn(VOCABULARY, generator=generator)
    logits[:10] += 2.0
    return logits


def options_of(row: int) -> GenerationOptions:
    pick = random.Random(row).choice
    return GenerationOptions(
        max_new_tokens=50,
        min_new_tokens=pick([0, 0, 3, 9]),
        temperature=pick([0.0, 0.0, 0.6, 1.0, 1.5]),
        top_k=pick([0, 1, 4, 100]),
        top_p=pick([1.0, 0.9, 0.3, 0.01]),
        min_p=pick([0.0, 0.0, 0.1, 0.5]),
        typical_p=pick([1.0, 1.0, 0.8, 0.2]),
        epsilon_cutoff=pick([0.0, 0.0, 0.03]),
        eta_cutoff=pick([0.0, 0.0, 0.05]),
        repetition_penalty=pick([1.0, 1.0, 1.4, 0.7]),
        no_repeat_ngram_size=pick([0, 0, 1, 2, 3]),
        seed=row,
    )


def prompt_of(row: int) -> list[int]:
    return [random.Random(row + 77).randrange(VOCABULARY) for _ in range(row % 9 + 1)]


def alone(row: int, steps: int) -> list[int]:
    ids, prompt = prompt_of(row), len(prompt_of(row))
    torch.manual_seed(row)
    for step in range(steps):
        ids.append(reference_token(logits_of(row, step), options_of(row), prompt, ids))
    return ids[prompt:]


def test_every_row_gets_what_transformers_gives_it_alone() -> None:
    # Given rows of every kind that join and leave at different steps
    sampler, rows, taken = new_sampler(), list[int](), dict[int, list[int]]()
    generator = random.Random(0)
    for row in range(120):
        sampler.add(options_of(row), prompt_of(row))
        rows.append(row)
        taken[row] = []
        # When each step samples all of them at once
        logits = torch.stack([logits_of(r, len(taken[r])) for r in rows])
        tokens = sampler.sample(logits).tolist()
        sampler.observe(tokens)
        for r, token in zip(rows, tokens, strict=True):
            taken[r].append(token)
        staying = [i for i, r in enumerate(rows) if len(taken[r]) < 3 + r % 8]
        generator.shuffle(staying)
        sampler.reorder(staying)
        rows = [rows[i] for i in staying]
    # Then each has the tokens that it gets alone
    for row, tokens in taken.items():
        assert tokens == alone(row, len(tokens)), options_of(row)


def test_plain_rows_take_the_best_token_whatever_their_neighbours_do() -> None:
    sampler = new_sampler()
    for row in range(20):
        plain = row % 3 == 0
        sampler.add(GenerationOptions() if plain else options_of(row), prompt_of(row))
    logits = torch.stack([logits_of(row, 0) for row in range(20)])
    assert sampler.sample(logits)[::3].tolist() == logits.argmax(-1)[::3].tolist()


def test_a_row_whose_logits_are_not_finite_is_broken_alone() -> None:
    sampler = new_sampler()
    for row in range(4):
        sampler.add(options_of(row) if row % 2 else GenerationOptions(), prompt_of(row))
    logits = torch.stack([logits_of(row, 0) for row in range(4)])
    whole = sampler.sample(logits.clone()).tolist()
    for bad in (torch.nan, torch.inf):
        sampler = new_sampler()
        for row in range(4):
            sampler.add(options_of(row) if row % 2 else GenerationOptions(), prompt_of(row))
        logits[0, 5] = logits[1, 9] = bad
        assert sampler.sample(logits).tolist() == [NOT_FINITE_TOKEN, NOT_FINITE_TOKEN, *whole[2:]]


def test_without_a_seed_two_rows_differ() -> None:
    sampler = new_sampler()
    for _ in range(2):
        sampler.add(GenerationOptions(temperature=1.0), [1])
    drawn = [sampler.sample(torch.zeros(2, VOCABULARY)).tolist() for _ in range(20)]
    assert len({tuple(column) for column in zip(*drawn, strict=True)}) == 2


def test_the_best_token_stays_however_small_top_p_is() -> None:
    sampler = new_sampler()
    sampler.add(GenerationOptions(temperature=1.0, top_p=1e-12, seed=1), [1])
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 5] = 200.0  # all of the probability, to the last bit
    assert sampler.sample(logits).tolist() == [5]


def test_suppressed_tokens_are_never_chosen() -> None:
    sampler = new_sampler(suppressed=[0, 1])
    sampler.add(GenerationOptions(), [5])
    logits = torch.arange(VOCABULARY, 0, -1.0)[None]
    assert sampler.sample(logits).tolist() == [2]


def test_image_tokens_beyond_the_vocabulary_do_no_harm() -> None:
    sampler = new_sampler()
    sampler.add(GenerationOptions(repetition_penalty=2.0), [VOCABULARY + 3, 4])
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 4], logits[0, 6] = 1.0, 0.6
    assert sampler.sample(logits).tolist() == [6]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_sampled_in_full(dtype: torch.dtype) -> None:
    sampler = new_sampler()
    sampler.add(options_of(5), prompt_of(5))
    sampler.add(GenerationOptions(), [1])
    logits = torch.stack([logits_of(5, 0), logits_of(6, 0)]).to(dtype)
    torch.manual_seed(5)
    expected = reference_token(logits[0], options_of(5), len(prompt_of(5)), prompt_of(5))
    assert sampler.sample(logits).tolist() == [expected, int(logits[1].argmax())]
