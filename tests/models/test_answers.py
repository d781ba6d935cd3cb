"""Ranked answers: equal to a plain loop over the loss of transformers, in every family."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.families import Family, family
from tests.models.traffic import serve
from worker.engine.engine import Engine
from worker.engine.request import GenerationOptions, Request

__all__ = ["family"]

ANSWERS = ["red", "yes", "no", "a red circle", "two", "blue and white", "above the star"]
QUESTIONS = ["how many?", "what color is the circle?"]


@pytest.fixture
def questions(family: Family) -> Family:
    """A family that answers questions."""
    if "vqa" not in family.model.tasks:
        pytest.skip("this model only captions")
    return family


def loss_of(family: Family, request: Request, answer: str) -> float:
    """Return the log-probability of an answer from the loss of transformers' own forward pass."""
    inputs, tokenizer = family.inputs(request), family.tokenizer
    ids = tokenizer(f" {answer}", add_special_tokens=False).input_ids
    if "text_decoder" in dict(family.network.named_children()):
        begin = family.network.config.text_config.bos_token_id
        row = torch.tensor([[begin, *ids, tokenizer.sep_token_id]])
        loss = family.network(**inputs, decoder_input_ids=row, labels=row).loss
        return -float(loss) * (len(ids) + 1)
    end = family.model.decoder.eos_ids[0]
    labels = torch.tensor([[*ids, end]])
    if not family.decoder.config.is_encoder_decoder:
        prompt = inputs["input_ids"]
        inputs["input_ids"] = torch.cat([prompt, labels], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        labels = torch.cat([torch.full_like(prompt, -100), labels], 1)
    return -float(family.network(**inputs, labels=labels).loss) * (len(ids) + 1)


def test_answers_have_the_scores_of_a_plain_loop_beside_rows_that_are_generated(
    questions: Family,
) -> None:
    generator = random.Random(1)
    requests: list[Request] = []
    for image in range(2):
        for text in QUESTIONS:
            for candidate in ["", *ANSWERS]:
                plain = questions.request(len(requests), image, text, GenerationOptions())
                requests.append(replace(plain, task="vqa", candidate=candidate))

    answers = serve(Engine(questions.model, max_rows=9, reserved_rows=1), requests, generator)

    with torch.inference_mode():
        for request in requests:
            answer: Any = answers[request.id]
            assert answer.error_code is None
            if request.candidate:
                (sequence,) = answer.sequences
                expected = loss_of(questions, request, request.candidate)
                assert sum(sequence.logprobs) == pytest.approx(expected, abs=2e-3, rel=1e-4)
            else:
                assert not answer.sequences


def test_an_answer_without_tokens_is_refused(questions: Family) -> None:
    request = replace(questions.request(0, 0, "how many?", GenerationOptions()), task="vqa")
    request.candidate = "\t"
    answer = serve(Engine(questions.model, max_rows=2), [request], random.Random(0))[0]
    assert (answer.error_code, "has no tokens" in answer.error_message) == ("option_invalid", True)
