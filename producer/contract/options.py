"""Generation options, a part of the contract: those of transformers' `generate`, for one row."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

#: Maximum texts of an option such as `stop`, characters of each, and tokens of `suppress_tokens`.
MAX_OPTION_TEXTS: Final = 64
MAX_OPTION_CHARS: Final = 256
MAX_SUPPRESS_TOKENS: Final = 1024
#: Maximum texts of one item: each is a row of the engine, or a beam.
MAX_SEQUENCES: Final = 16


def _check_temperature(temperature: float) -> float:
    # Logits divided by a smaller temperature overflow in half precision.
    if 0 < temperature < 0.01:
        raise ValueError("must be 0 (greedy) or at least 0.01")
    return temperature


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


#: A text of a list of options, and such a list; a single value is a list of one.
_OptionText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_OPTION_CHARS)]
_OptionTextList = Annotated[list[_OptionText], Field(max_length=MAX_OPTION_TEXTS)]
_OptionTexts = Annotated[
    _OptionTextList,
    BeforeValidator(_as_list, json_schema_input_type=_OptionTextList | _OptionText),
]
#: The same of token numbers.
_Token = Annotated[int, Field(ge=0, lt=2**31)]
_TokenList = Annotated[list[_Token], Field(max_length=MAX_SUPPRESS_TOKENS)]
_Tokens = Annotated[
    _TokenList, BeforeValidator(_as_list, json_schema_input_type=_TokenList | _Token)
]


class Options(BaseModel):
    """Generation options of all items of a chunk.

    Greedy unless ``temperature``, ``do_sample`` or ``num_beams`` is set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(
        20, ge=1, le=1024, description="Maximum length of the text, in tokens."
    )
    min_new_tokens: int = Field(
        0, ge=0, le=1024, description="Minimum length of the text, in tokens."
    )
    max_length: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Like `max_new_tokens`, but counts the tokens of the decoder's prompt as well, "
        "with BLIP-2 and OPT those of the image too; replaces `max_new_tokens`.",
    )
    min_length: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Like `min_new_tokens`, but counts the same tokens as `max_length`.",
    )
    do_sample: bool | None = Field(
        None,
        description="`true` samples, with `temperature` 1 unless it is set; `false` never samples; "
        "unset: sampling if `temperature` is set.",
    )
    temperature: Annotated[float, AfterValidator(_check_temperature)] = Field(
        0.0,
        ge=0.0,
        le=10.0,
        allow_inf_nan=False,
        description="0: greedy decoding; from 0.01 on: sampling.",
        json_schema_extra={"not": {"exclusiveMinimum": 0, "exclusiveMaximum": 0.01}},
    )
    top_k: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Sample from the k most probable tokens only; 0 = off.",
    )
    top_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Sample from the most probable tokens up to this total probability; 1 = off.",
    )
    min_p: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Sample from tokens of at least this share of the top probability; 0 = off.",
    )
    typical_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Sample from the most typical tokens up to this total probability; 1 = off.",
    )
    epsilon_cutoff: float = Field(
        0.0, ge=0.0, lt=1.0, description="Sample from tokens of at least this probability; 0 = off."
    )
    eta_cutoff: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Like `epsilon_cutoff`, but lower if the entropy is high; 0 = off.",
    )
    repetition_penalty: float = Field(
        1.0,
        ge=0.01,
        le=10.0,
        description="Values above 1 make repeated tokens less likely; 1 = off.",
    )
    no_repeat_ngram_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Length of token sequences that may occur only once; 0 = off.",
    )
    num_beams: int = Field(1, ge=1, le=16, description="Beams of beam search; 1 = off.")
    num_beam_groups: int = Field(
        1,
        ge=1,
        le=16,
        description="Diverse beam search: equal groups of beams, each of which avoids the tokens "
        "of the groups before it; 1 = off.",
    )
    diversity_penalty: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        allow_inf_nan=False,
        description="Diverse beam search: subtracted from the score of a token for each beam of "
        "earlier groups that has it at the same position.",
    )
    length_penalty: float = Field(
        1.0,
        ge=-10.0,
        le=10.0,
        allow_inf_nan=False,
        description="Beam search: above 0 favours longer texts, below 0 shorter ones.",
    )
    early_stopping: bool | Literal["never"] = Field(
        False,
        description="Beam search: end when there are as many candidates as beams; `never`: only "
        "when no better text is possible.",
    )
    num_return_sequences: int = Field(
        1,
        ge=1,
        le=MAX_SEQUENCES,
        description="Number of texts: the best beams, or samples; sample number n has the seed "
        "`seed` + n.",
    )
    stop: _OptionTexts = Field(
        [], description="Texts that end the text; it contains the token that completes one."
    )
    bad_words: _OptionTexts = Field([], description="Texts whose tokens are never generated.")
    suppress_tokens: _Tokens = Field([], description="Numbers of tokens that are never generated.")
    output_scores: bool = Field(
        False, description="Return `sequences`: the log-probability of each text and token."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Makes sampling repeatable, in any forward batch."
    )
    stream: bool = Field(
        False,
        description="Publish the text while it grows, for `stream` of a single interactive job; "
        "not with beams.",
    )
    deadline: float | None = Field(
        None,
        gt=0.0,
        allow_inf_nan=False,
        description="Unix time after which the items fail with `deadline_exceeded`.",
    )

    @property
    def sampling_temperature(self) -> float:
        """The temperature, or 0 if the texts are not sampled."""
        if self.do_sample is None:
            return self.temperature
        return (self.temperature or 1.0) if self.do_sample else 0.0

    def combination_error(self) -> str | None:
        """Return the error of options that exclude each other, or None.

        The worker and `check_combination` check them: a schema of requests cannot express it.
        """
        if self.max_length is not None and self.max_new_tokens != 20:
            return "max_length and max_new_tokens exclude each other: set one of them"
        if self.min_length and self.min_new_tokens:
            return "min_length and min_new_tokens exclude each other: set one of them"
        maximum = "max_new_tokens" if self.max_length is None else "max_length"
        # With min_length and max_new_tokens, the length of the prompt decides: the engine checks.
        minimum = "min_length" if self.min_length and self.max_length else "min_new_tokens"
        if getattr(self, minimum) > getattr(self, maximum):
            return f"{minimum} exceeds {maximum}: lower it, or raise {maximum}"
        if self.num_return_sequences > 1 and self.num_beams == 1 and not self.sampling_temperature:
            return (
                "num_return_sequences needs sampling (temperature) or num_beams: a greedy search "
                "finds a single text"
            )
        if self.num_return_sequences > self.num_beams > 1:
            return "num_return_sequences exceeds num_beams: raise num_beams"
        return self._groups_error()

    def _groups_error(self) -> str | None:
        """Return the error of the options of diverse beam search, with transformers' rules."""
        if self.num_beam_groups == 1:
            if self.diversity_penalty:
                return "diversity_penalty needs groups of beams: set num_beam_groups"
            return None
        if self.num_beams % self.num_beam_groups or self.num_beams == 1:
            return (
                f"num_beam_groups is {self.num_beam_groups}, which does not divide num_beams, "
                f"{self.num_beams}: set num_beams to a multiple of it"
            )
        if not self.diversity_penalty:
            return "num_beam_groups needs a diversity_penalty above 0: without it, groups are equal"
        if self.sampling_temperature:
            return "num_beam_groups excludes sampling: omit temperature and do_sample"
        return None


class ItemOptions(Options):
    """Generation options of one item, which replace those of its chunk."""

    #: The items of a chunk share its deadline, and do not publish texts while they grow.
    deadline: ClassVar[None] = None  # type: ignore[misc]
    stream: ClassVar[None] = None  # type: ignore[misc]
