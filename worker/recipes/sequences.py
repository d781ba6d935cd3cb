"""Several texts of one item, and the scores of texts and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from producer.contract import ItemResult, SequencePayload
from worker.engine.request import Answer, GeneratedSequence, GenerationOptions

#: Number of seeds.
_SEEDS: Final = 2**63
#: Decimal places of a log-probability: those of its 32 bits.
_PLACES: Final = 6
#: Log-probability instead of minus infinity, which JSON does not have.
_LEAST: Final = -1e9


def options_of_rows(options: GenerationOptions) -> list[GenerationOptions]:
    """Return the options of each row of an item: samples are rows of their own."""
    count = options.num_return_sequences
    if count == 1 or options.num_beams > 1:
        return [options]
    plain = replace(options, num_return_sequences=1)
    if options.seed is None:
        return [plain] * count
    return [replace(plain, seed=(options.seed + number) % _SEEDS) for number in range(count)]


def text_result(answers: Sequence[Answer], options: GenerationOptions) -> ItemResult:
    """Return the result of a task that answers with a text."""
    result: ItemResult = {"text": answers[0].text}
    if options.num_return_sequences > 1 or options.output_scores:
        result["sequences"] = [
            payload for answer in answers for payload in _payloads(answer, options)
        ]
    if options.output_scores:
        result["prompt_tokens"] = answers[0].prompt_tokens
    return result


def _payloads(answer: Answer, options: GenerationOptions) -> list[SequencePayload]:
    if not options.output_scores:
        return [{"text": each.text} for each in answer.sequences] or [{"text": answer.text}]
    return [scored_payload(sequence) for sequence in answer.sequences]


def scored_payload(sequence: GeneratedSequence) -> SequencePayload:
    """Return a text with its scores."""
    tokens = zip(sequence.tokens, sequence.token_texts, sequence.logprobs, strict=True)
    return {
        "text": sequence.text,
        "logprob": _rounded(sum(sequence.logprobs)),
        "tokens": [
            {"id": token, "text": text, "logprob": _rounded(logprob)}
            for token, text, logprob in tokens
        ],
        "finish_reason": "stop" if sequence.is_complete else "length",
    }


def _rounded(logprob: float) -> float:
    return round(max(logprob, _LEAST), _PLACES)
