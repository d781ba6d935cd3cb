"""The options of a row: those of its request, resolved for its prompt and the model's tokens."""

from __future__ import annotations

from dataclasses import replace

from worker.engine.halving import Failure
from worker.engine.model import Prompt, TextGenerator
from worker.engine.request import GenerationOptions


class InvalidOptions(ValueError):
    """Options that this model or prompt does not allow."""

    @property
    def failure(self) -> Failure:
        """The failure of the row."""
        return Failure("option_invalid", str(self))


def resolve_options(
    options: GenerationOptions, prompt: Prompt, model: TextGenerator
) -> GenerationOptions:
    """Return options without lengths of the whole text, and with the tokens of banned words.

    Raises InvalidOptions.
    """
    _check_tokens(options, model.decoder.vocab_size)
    if not (options.max_length or options.min_length or options.bad_words):
        return options
    new, least = _new_tokens(options, len(prompt.start))
    return replace(
        options,
        max_new_tokens=new,
        min_new_tokens=least,
        max_length=None,
        min_length=0,
        bad_word_ids=_bad_word_ids(options.bad_words, model),
    )


def candidate_tokens(candidate: str, model: TextGenerator) -> tuple[int, ...]:
    """Return the tokens of an answer and of its end.

    Raises InvalidOptions.
    """
    variants = model.token_texts.word_ids(candidate)
    if not variants:
        raise InvalidOptions(f"answers: {candidate!r:.100} has no tokens; remove it.")
    # The answer begins a word.
    return (*variants[-1], model.decoder.eos_ids[0])


def candidate_options(tokens: tuple[int, ...]) -> GenerationOptions:
    """Return the options of a row that scores these tokens."""
    return GenerationOptions(max_new_tokens=len(tokens), output_scores=True)


def _new_tokens(options: GenerationOptions, prompt_tokens: int) -> tuple[int, int]:
    """Return the maximum and the minimum of new tokens."""
    new = options.max_new_tokens
    if options.max_length is not None:
        new = options.max_length - prompt_tokens
        if new < 1:
            raise InvalidOptions(
                f"max_length is {options.max_length}, but the prompt already has {prompt_tokens}"
                " tokens, including image tokens; raise it, or set max_new_tokens instead."
            )
    least = max(options.min_new_tokens, options.min_length - prompt_tokens)
    if least > new:
        raise InvalidOptions(
            f"min_length or min_new_tokens requires {least} new tokens, but at most {new} are"
            " allowed; lower it, or raise the maximum."
        )
    return new, least


def _bad_word_ids(words: tuple[str, ...], model: TextGenerator) -> tuple[tuple[int, ...], ...]:
    ids: dict[tuple[int, ...], None] = {}
    for word in words:
        variants = model.token_texts.word_ids(word)
        if not variants:
            raise InvalidOptions(f"bad_words: {word!r:.100} has no tokens; remove it.")
        ids |= dict.fromkeys(variants)
    # As in `generate`, the end of a text is never banned.
    return tuple(word for word in ids if word not in {(end,) for end in model.decoder.eos_ids})


def _check_tokens(options: GenerationOptions, vocab_size: int) -> None:
    for token in options.suppress_tokens:
        if not 0 <= token < vocab_size:
            raise InvalidOptions(
                f"suppress_tokens: {token} is no token of this model, which has {vocab_size:,}."
            )
