"""The recipe of `blipline.capfilt`: the captioner and the filter of BLIP (Li et al., 2022).

The captioner writes synthetic captions by nucleus sampling. The filter keeps each text, from the
web or synthetic, whose probability by image-text matching reaches a threshold.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from producer import contract
from producer.contract import ErrorCode, ScoredTextPayload, TextSource
from worker.engine.request import Answer, GenerationOptions
from worker.recipes.recipe import ModelCall, Recipe

#: Probability of the nucleus, as in the paper, unless `top_p` is set.
TOP_P: Final = 0.9
#: Number of seeds.
_SEEDS: Final = 2**63


@dataclass(frozen=True, slots=True)
class FilterTerms:
    """The number of synthetic captions, and the least probability of each source's texts."""

    captions: int
    threshold: float
    synthetic_threshold: float

    def accepts(self, text: ScoredTextPayload) -> bool:
        """Return whether a text is accepted."""
        is_synthetic = text["source"] == "synthetic"
        threshold = self.synthetic_threshold if is_synthetic else self.threshold
        return text["probability"] >= threshold


def capfilt(texts: Sequence[str], terms: FilterTerms, options: GenerationOptions) -> Recipe:
    """Write synthetic captions of an image, and filter them and `texts` by their match with it."""
    texts = _unique(texts, ())
    captions, scores = yield from _captions_and_scores(texts, terms.captions, options)
    if (error := _error((*captions, *scores))) is not None:
        return error
    synthetic = _unique([answer.text for answer in captions if answer.text.strip()], texts)
    synthetic_scores = (yield [_match(text) for text in synthetic]) if synthetic else []
    if (error := _error(synthetic_scores)) is not None:
        return error
    scored = [
        *_scored("web", texts, scores),
        *_scored("synthetic", synthetic, synthetic_scores),
    ]
    accepted = [text for text in scored if terms.accepts(text)]
    rejected = [text for text in scored if not terms.accepts(text)]
    # Of equally probable texts, the first, as in a match.
    best = max(accepted, key=lambda text: text["probability"])["text"] if accepted else ""
    return {"text": best, "accepted": accepted, "rejected": rejected}


def nucleus_options(options: GenerationOptions) -> GenerationOptions:
    """Return the options of synthetic captions: nucleus sampling, unless a search is chosen."""
    if options.temperature == 0 and options.num_beams > 1:
        return options
    return replace(
        options,
        temperature=options.temperature or 1.0,
        top_p=TOP_P if options.top_p == 1 else options.top_p,
    )


def _captions_and_scores(
    texts: Sequence[str], count: int, options: GenerationOptions
) -> Generator[list[ModelCall], list[Answer], tuple[list[Answer], list[Answer]]]:
    """Generate captions, while the matching model scores the texts."""
    options = nucleus_options(options)
    calls = [ModelCall("caption", options=_numbered(options, n)) for n in range(count)]
    answers = yield [*calls, *map(_match, texts)]
    return answers[:count], answers[count:]


def _numbered(options: GenerationOptions, number: int) -> GenerationOptions:
    """Return the options of a caption: each has a seed of its own."""
    if options.seed is None:
        return options
    return replace(options, seed=(options.seed + number) % _SEEDS)


def _match(text: str) -> ModelCall:
    # A row for each text, so that one that is too long fails alone.
    return ModelCall("match", texts=(text,))


def _error(answers: Sequence[Answer]) -> contract.ItemResult | None:
    """Return the first error that ends the item; a text that is too long does not match."""
    for answer in answers:
        is_too_long = answer.error_code == ErrorCode.PROMPT_TOO_LONG
        if answer.error_code is not None and not is_too_long:
            return contract.failure(answer.error_code, answer.error_message)
    return None


def _scored(
    source: TextSource, texts: Sequence[str], answers: Sequence[Answer]
) -> list[ScoredTextPayload]:
    scored: list[ScoredTextPayload] = []
    for text, answer in zip(texts, answers, strict=True):
        probability, cosine = answer.scores[0] if answer.scores else (0.0, 0.0)
        scored.append(
            {
                "text": text,
                "source": source,
                "probability": round(probability, 7),
                "cosine": round(cosine, 7),
            }
        )
    return scored


def _unique(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return each text once, without known ones; case and whitespace do not count."""
    seen = {_normalized(text) for text in known}
    unique = []
    for text in texts:
        if (normalized := _normalized(text)) not in seen:
            seen.add(normalized)
            unique.append(text)
    return unique


def _normalized(text: str) -> str:
    return " ".join(text.casefold().split())
