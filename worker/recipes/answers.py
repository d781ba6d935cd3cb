"""The recipe of a question with a closed list of answers: it ranks the list.

As in BLIP's own evaluation of VQA (Li et al., 2022), the decoder's loss ranks an answer: the
log-probability that the model writes exactly this answer, its end included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, fsum

from producer import contract
from producer.contract import SequencePayload
from worker.engine.request import Answer, GenerationOptions
from worker.recipes.recipe import ModelCall, Recipe
from worker.recipes.sequences import scored_payload


def rank_answers(question: str, answers: Sequence[str], options: GenerationOptions) -> Recipe:
    """Rank answers to a question; the best is the text of the result."""
    plain = GenerationOptions()
    calls = [ModelCall("vqa", question, plain, candidate=answer) for answer in answers]
    scored = yield calls
    for answer in scored:
        if answer.error_code is not None:
            return contract.failure(answer.error_code, answer.error_message)
    ranked = sorted(
        (_payload(text, answer) for text, answer in zip(answers, scored, strict=True)),
        key=lambda payload: -payload["logprob"],
    )
    total = fsum(exp(payload["logprob"] - ranked[0]["logprob"]) for payload in ranked)
    for payload in ranked:
        relative = exp(payload["logprob"] - ranked[0]["logprob"])
        payload["probability"] = round(relative / total, 6)
        if not options.output_scores:
            del payload["tokens"]
    result: contract.ItemResult = {"text": ranked[0]["text"], "sequences": ranked}
    if options.output_scores:
        result["prompt_tokens"] = scored[0].prompt_tokens
    return result


def _payload(text: str, answer: Answer) -> SequencePayload:
    payload = scored_payload(replace(answer.sequences[0], text=text))
    del payload["finish_reason"]
    return payload
