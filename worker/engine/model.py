"""Protocols that a model implements for the engine.

A `Generator` generates text for an image, token by token; a `Matcher` compares images and texts in
one forward pass. Both encode images as a `Vision` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import torch

    from worker.engine.frame import Frame
    from worker.engine.request import GenerationOptions, Request
    from worker.engine.slots import SlotCache


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens that a row starts from."""

    #: Tokens that the decoder continues, image tokens included. As in `generate`, repetition
    #: penalty and n-grams count them as generated.
    start: list[int]
    #: Tokens that a text encoder reads; None if the model has none.
    source: list[int] | None = None
    #: Tokens that the Q-Former reads; None if it reads no text.
    query: list[int] | None = None
    #: The prompt as text, if a caption must begin with it and the tokens do not preserve it.
    text: str = ""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """The new tokens of a generated text, the end token included."""

    tokens: list[int]
    #: Log-probability of each token; empty without `output_scores`.
    logprobs: list[float]


class StopTexts(Protocol):
    """Texts that end an answer."""

    def completed_by(self, tokens: Sequence[int], before: Sequence[int] = ()) -> bool:
        """Return whether the last token completes a text, which may begin in `before`."""


class TokenVocabulary(Protocol):
    """The texts of a model's tokens."""

    def text(self, token: int) -> str:
        """Return the text of a token, with the space before it if it begins a word."""

    def word_ids(self, word: str) -> list[tuple[int, ...]]:
        """Return the tokens of a text, at the beginning of an answer and after a space."""

    def stop_texts(self, texts: Sequence[str]) -> StopTexts:
        """Return the texts that end an answer."""


class Vision(Protocol):
    """The image side of every model. Row i of a result belongs to row i of the input."""

    name: str
    revision: str  # short hash of everything that determines its answers
    commit: str  # of the hub; empty for a directory
    tasks: frozenset[str]
    precision: str
    image_size: int  # the side of its input, or the longer one
    frame: Frame  # images arrive as frame.height x frame.width RGB
    resample: int  # the Pillow filter the checkpoint was trained with
    device: torch.device

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode uint8 (n, height, width, 3), on any device, as features (n, tokens, hidden)."""


class TextDecoder(Protocol):
    """The text decoder of a generator; its keys and values are stored in a `SlotCache`."""

    #: Tokens of a row, prompt included: one more than it has positions, as the last token of an
    #: answer is never an input.
    max_length: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]  # tokens the checkpoint never generates

    def new_slots(self, rows: int) -> SlotCache:
        """Allocate an empty KV cache of `rows` slots."""

    def prefill(
        self, inputs: torch.Tensor, prompts: Sequence[Prompt], slots: SlotCache
    ) -> torch.Tensor:
        """Prefill new rows and append them to `slots`. Return logits (n, vocabulary)."""

    def decode(self, slots: SlotCache, start: int, stop: int) -> torch.Tensor:
        """Run a decode step of rows start..stop. Return logits (n, vocabulary).

        The input is the newest token of each row. The caller advances `slots`.
        """

    def generate(
        self,
        inputs: torch.Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        """Run transformers' own beam search. Return each row's best sequences, the best first.

        Prompts must have equal lengths. `stop` is called after each step; True ends the call.
        """


class Generator(Vision, Protocol):
    """A model that generates text."""

    @property
    def decoder(self) -> TextDecoder:
        """The text decoder."""

    @property
    def token_texts(self) -> TokenVocabulary:
        """The texts of its tokens."""

    def prompt(self, request: Request) -> Prompt:
        """Build the prompt of a request. Raises PromptTooLong; ValueError for invalid Unicode."""

    def condition(self, features: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Return the decoder's inputs: image features, in some models combined with texts."""

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        """Return the answer as text, without special tokens and surrounding spaces."""


class Matcher(Vision, Protocol):
    """A model that compares images and texts. Texts of a forward batch may differ in length."""

    def tokens(self, text: str) -> list[int]:
        """Tokenize a text. Raises PromptTooLong; ValueError for invalid Unicode."""

    def match(
        self, features: torch.Tensor, texts: Sequence[list[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return P(match) (n,) and cosine (n,) of each image-text pair, both float32."""

    def embed_images(self, features: torch.Tensor) -> torch.Tensor:
        """Return unit vectors (n, dim), float32."""

    def embed_texts(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Return unit vectors (n, dim), float32."""


def as_generator(model: Generator | Matcher) -> Generator | None:
    """Return the model if it generates text, else None."""
    return None if "match" in model.tasks else cast("Generator", model)


def as_matcher(model: Generator | Matcher) -> Matcher | None:
    """Return the model if it compares images and texts, else None."""
    return cast("Matcher", model) if "match" in model.tasks else None
