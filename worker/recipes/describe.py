"""The recipe of `blipline.describe`: a long description from several prompts, in rounds.

The prompts of a round are rows of the same engine steps and share the image's features. Each later
round continues the description so far. Sentences are ranked by image-text matching if a matching
model is loaded, else by length and novelty (`worker/recipes/composition.py`).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from producer import contract
from producer.contract import CandidatePayload, Detail, ErrorCode
from worker.engine.request import Answer, GenerationOptions
from worker.recipes.composition import Composition
from worker.recipes.recipe import POLISH, ModelCall, Recipe
from worker.recipes.sentences import Sentence, continued, split_sentences

#: Rounds of each level of detail.
ROUNDS: Final = {Detail.LOW: 1, Detail.MEDIUM: 2, Detail.HIGH: 3}
#: Options of each level of detail, for options that have their default value.
OPTIONS: Final[Mapping[Detail, Mapping[str, Any]]] = {
    Detail.LOW: {"max_new_tokens": 60, "no_repeat_ngram_size": 4},
    Detail.MEDIUM: {"max_new_tokens": 120, "no_repeat_ngram_size": 4},
    Detail.HIGH: {
        "max_new_tokens": 250,
        "no_repeat_ngram_size": 4,
        "num_beams": 6,
        "length_penalty": 2.0,
        "repetition_penalty": 1.5,
    },
}
#: Prompts of the first round, unless the item has its own.
PROMPTS: Final = ("", "a photo of", "this is", "there is")
#: Prompts of a later round, after the description so far; "" extends its last sentence.
CONTINUATIONS: Final = ("", "there is also", "in the background there is")

_PLAIN: Final = GenerationOptions()


@dataclass(slots=True)
class GeneratedText:
    """A generated text: its sentences are candidates for the description."""

    prompt: str
    round: int
    sentences: list[Sentence]
    score: float = 0.0

    def payload(self, used: Sequence[Sentence]) -> CandidatePayload:
        """Return the candidate as JSON; `used` are the sentences of the description."""
        return {
            "text": " ".join(sentence.text for sentence in self.sentences),
            "prompt": self.prompt,
            "round": self.round,
            "score": round(self.score, 4),
            "used": any(sentence in used for sentence in self.sentences),
        }


@dataclass(slots=True)
class DescriptionState:
    """The state of a recipe: the description so far and all candidates."""

    prompts: tuple[str, ...]
    options: GenerationOptions
    ranks: bool
    composition: Composition = field(default_factory=Composition)
    candidates: list[GeneratedText] = field(default_factory=list)
    #: Probability of each sentence, also of those that were dropped.
    scored: dict[Sentence, float] = field(default_factory=dict)


class CallFailed(Exception):
    """A call whose error ends the item."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error_message)
        self.result = contract.failure(answer.error_code or "", answer.error_message)


def describe(
    prompts: tuple[str, ...],
    detail: Detail,
    options: GenerationOptions,
    *,
    ranks: bool,
    polishes: bool = False,
) -> Recipe:
    """Describe an image.

    `ranks` is true if the engine can match texts with the image, `polishes` if a language model
    polishes the text.
    """
    started = time.monotonic()
    options = with_defaults(options, detail)
    state = DescriptionState(prompts or PROMPTS, options, ranks)
    rounds = 0
    try:
        while rounds < ROUNDS[detail]:
            rounds += 1
            enriched = yield from _round(state, rounds)
            if not enriched and options.temperature == 0:
                # The next round would repeat this one.
                break
    except CallFailed as error:
        return error.result
    polished = (yield from _polish(state)) if polishes and state.composition.text else {}
    text = polished.get("text", state.composition.text)
    return {
        "text": text,
        "characters": len(text),
        "words": len(text.split()),
        "candidates": [c.payload(state.composition.sentences) for c in state.candidates],
        "rounds": rounds,
        "seconds": round(time.monotonic() - started, 3),
        "ranked_by": "match" if ranks else "length",
        **polished,
    }


def _polish(state: DescriptionState) -> Recipe:
    """Return the polished and the unpolished text, or a warning."""
    text = state.composition.text
    candidates = [" ".join(s.text for s in c.sentences) for c in state.candidates]
    (answer,) = yield [ModelCall(POLISH, text, texts=tuple(candidates))]
    if answer.error_code is not None:
        return {"warning": f"not polished: {answer.error_message}"}
    return {"text": answer.text, "unpolished": text}


def with_defaults(options: GenerationOptions, detail: Detail) -> GenerationOptions:
    """Return options in which the unset ones are those of the level of detail."""
    given = asdict(options)
    unset = {name for name, value in asdict(_PLAIN).items() if given[name] == value}
    defaults = {name: value for name, value in OPTIONS[detail].items() if name in unset}
    return replace(options, **defaults)


def _round(state: DescriptionState, number: int) -> Generator[list[ModelCall], list[Answer], bool]:
    """Run a round; return whether it enriched the description."""
    before = [sentence.body for sentence in state.composition.sentences]
    prompts = CONTINUATIONS if before else state.prompts
    options = state.options
    if options.seed is not None:
        options = replace(options, seed=(options.seed + number - 1) % 2**63)
    answers = yield [
        ModelCall("caption", _model_prompt(before, prompt), options) for prompt in prompts
    ]
    candidates = [
        GeneratedText(prompt, number, _sentences(answer, before, prompt, options))
        for prompt, answer in zip(prompts, answers, strict=True)
        if _has_answered(answer, required=number == 1)
    ]
    sentences = dict.fromkeys(sentence for c in candidates for sentence in c.sentences)
    new = [sentence for sentence in sentences if sentence not in state.scored]
    state.scored |= (yield from _match(new)) if state.ranks else dict.fromkeys(new, 1.0)
    for candidate in candidates:
        candidate.score = _score(state, candidate)
    state.candidates += [candidate for candidate in candidates if candidate.sentences]
    return state.composition.add({sentence: state.scored[sentence] for sentence in new})


def _model_prompt(before: Sequence[str], prompt: str) -> str:
    """Return the description so far, in the case of the model, and a prompt that follows it."""
    joined = ". ".join(before)
    return f"{joined}. {prompt}" if joined and prompt else joined or prompt


def _sentences(
    answer: Answer, before: Sequence[str], prompt: str, options: GenerationOptions
) -> list[Sentence]:
    if before and not prompt:
        before, prompt = before[:-1], before[-1]
    text = continued(answer.text, " ".join(before), prompt)
    return split_sentences(text, cut_off=answer.tokens >= options.max_new_tokens)


def _has_answered(answer: Answer, *, required: bool) -> bool:
    """Return whether a call has an answer; raises CallFailed for an error that ends the item.

    A description that leaves too few tokens for its continuation is complete.
    """
    if answer.error_code is None:
        return True
    if required or answer.error_code != ErrorCode.PROMPT_TOO_LONG:
        raise CallFailed(answer)
    return False


def _match(
    sentences: list[Sentence],
) -> Generator[list[ModelCall], list[Answer], dict[Sentence, float]]:
    """Return the probability of each sentence; 0 if it is too long for the matching model."""
    if not sentences:
        return {}
    # A row for each sentence, so that one that is too long fails alone.
    answers = yield [ModelCall("match", texts=(sentence.body,)) for sentence in sentences]
    return {
        sentence: answer.scores[0][0] if _has_answered(answer, required=False) else 0.0
        for sentence, answer in zip(sentences, answers, strict=True)
    }


def _score(state: DescriptionState, candidate: GeneratedText) -> float:
    """Return the mean probability of a candidate's sentences, or the number of its new words."""
    sentences = candidate.sentences
    if state.ranks:
        return sum(state.scored[sentence] for sentence in sentences) / max(1, len(sentences))
    words = frozenset().union(*(state.composition.new_words(sentence) for sentence in sentences))
    return float(len(words))
