"""Requests to the engine and its answers. Consumers import this module, so it imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

#: Internal error code, never sent to a producer: the request has no pixels and the features of its
#: image are not cached. The consumer sends it again, with pixels.
IMAGE_NEEDED = "image_needed"

RequestId = int | str


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """The decoding options of a row. The defaults are greedy decoding of at most 20 new tokens."""

    max_new_tokens: int = 20
    min_new_tokens: int = 0
    #: Limits in tokens that count the decoder's prompt, instead of the two above; None and 0: off.
    max_length: int | None = None
    min_length: int = 0
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 is off
    top_p: float = 1.0  # 1 is off
    min_p: float = 0.0  # 0 is off
    typical_p: float = 1.0  # 1 is off
    epsilon_cutoff: float = 0.0  # 0 is off
    eta_cutoff: float = 0.0  # 0 is off
    repetition_penalty: float = 1.0  # 1 is off
    no_repeat_ngram_size: int = 0  # 0 is off
    seed: int | None = None  # None: a new seed for each request
    num_beams: int = 1  # 1 is off; transformers' own `generate` runs beam search
    num_beam_groups: int = 1  # 1 is off; the groups divide num_beams
    diversity_penalty: float = 0.0  # above 0 with groups
    length_penalty: float = 1.0  # beam search: above 0 favours longer texts
    #: Beam search: end when there are enough candidates; "never": when no better text is possible.
    early_stopping: bool | Literal["never"] = False
    #: Beam search: texts of the answer. Sampled texts are rows of their own.
    num_return_sequences: int = 1
    stop: tuple[str, ...] = ()  # texts that end the answer, and are part of it
    bad_words: tuple[str, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    output_scores: bool = False
    #: The tokens of `bad_words`, which the engine sets.
    bad_word_ids: tuple[tuple[int, ...], ...] = ()

    @property
    def deterministic(self) -> bool:
        """True if equal requests always get equal answers."""
        return self.temperature == 0 or self.seed is not None

    @property
    def group_beams(self) -> int:
        """The beams of a group, whose scores are processed together."""
        return self.num_beams // self.num_beam_groups

    def error(self) -> str | None:
        """Return the first error of these options as one sentence, or None."""
        for invalid, message in (
            (self.max_new_tokens < 1, "max_new_tokens must be at least 1."),
            (
                not 0 <= self.min_new_tokens <= self.max_new_tokens,
                "min_new_tokens must lie between 0 and max_new_tokens.",
            ),
            (not 0 <= self.temperature < math.inf, "temperature must be 0 (greedy) or more."),
            (self.top_k < 0, "top_k must be 0 (off) or more."),
            (not 0 < self.top_p <= 1, "top_p must be above 0 and at most 1."),
            (not 0 <= self.min_p <= 1, "min_p must lie between 0 (off) and 1."),
            (not 0 < self.typical_p <= 1, "typical_p must be above 0 and at most 1."),
            (
                not 0 <= self.epsilon_cutoff < 1 or not 0 <= self.eta_cutoff < 1,
                "epsilon_cutoff and eta_cutoff must be at least 0 (off) and below 1.",
            ),
            (not 0 < self.repetition_penalty < math.inf, "repetition_penalty must be above 0."),
            (self.no_repeat_ngram_size < 0, "no_repeat_ngram_size must be 0 (off) or more."),
            (
                self.seed is not None and not 0 <= self.seed < 2**63,
                "seed must lie between 0 and 2**63 - 1.",
            ),
            (self.num_beams < 1, "num_beams must be at least 1."),
            (
                self.num_beam_groups < 1 or self.num_beams % self.num_beam_groups > 0,
                "num_beams must be divisible by num_beam_groups.",
            ),
            (
                (self.num_beam_groups > 1) != (self.diversity_penalty > 0),
                "diversity_penalty must be above 0 with groups of beams, and 0 without.",
            ),
            (
                self.num_beam_groups > 1 and self.temperature > 0,
                "temperature must be 0 with groups of beams.",
            ),
            (
                not 1 <= self.num_return_sequences <= self.num_beams,
                "num_return_sequences must lie between 1 and num_beams.",
            ),
        ):
            if invalid:
                return message
        return None


@dataclass(slots=True)
class Request:
    """A request: an image, a text and decoding options."""

    id: RequestId
    task: str  # "caption" | "vqa" | "chat" | "match" | "embed"
    #: Key of the pixels and of the adapter, if that changes their features; "" without an image: an
    #: embedding of a text.
    image_hash: str
    #: uint8, height * width * 3, rows of RGB, or a PPM file for a model that keeps proportions;
    #: None if the features are expected to be cached.
    pixels: bytes | None
    text: str = ""  # caption: the prompt or ""; vqa, chat: the question; embed: the text
    options: GenerationOptions = field(default_factory=GenerationOptions)
    interactive: bool = False
    deadline: float | None = None  # on the engine's clock, time.monotonic() seconds
    #: Chat: earlier questions and their answers, oldest first.
    history: tuple[tuple[str, str], ...] = ()
    #: Match: the texts to compare with the image.
    texts: tuple[str, ...] = ()
    #: Vqa: the answer whose log-probability is sought, instead of a generated one.
    candidate: str = ""
    #: Name of the adapter that answers; empty: the model without one.
    adapter: str = ""
    #: True if the text is sent while it grows; not a part of the identity.
    streams: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """The fields that determine the answer; equal requests share a row."""
        texts = (self.text, self.history, self.texts, self.candidate)
        return (self.task, self.image_hash, texts, self.options, self.adapter)


@dataclass(frozen=True, slots=True)
class GeneratedSequence:
    """A generated text and its new tokens, the end token included."""

    text: str
    tokens: tuple[int, ...]
    #: The text of each token.
    token_texts: tuple[str, ...]
    #: Log-probability of each token; empty without `output_scores`.
    logprobs: tuple[float, ...]
    #: True if an end token or a stop text has ended the text, not its limit.
    is_complete: bool


@dataclass(slots=True)
class Answer:
    """The answer to a request: a result or an error."""

    id: RequestId
    text: str = ""
    tokens: int = 0  # new tokens, the end token included
    #: Match: (P(match), cosine) of each text, in order.
    scores: tuple[tuple[float, float], ...] = ()
    #: Embed: the unit vector.
    embedding: tuple[float, ...] = ()
    #: With `output_scores` or several texts: all texts, the best first.
    sequences: tuple[GeneratedSequence, ...] = ()
    #: Tokens that the model reads, image included.
    prompt_tokens: int = 0
    error_code: str | None = None
    error_message: str = ""
    #: Rows of the step that completed the answer; 0: no step did.
    batch_rows: int = field(default=0, compare=False)
    #: Arrival, features at hand and end, on the engine's clock; None for an error.
    times: tuple[float, float, float] | None = field(default=None, compare=False)
