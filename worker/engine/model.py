"""Protocols of a model: what the engine calls.

A `Generator` writes text about an image, token by token; a `Matcher` compares images and texts in
one pass. What they share is `Vision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import torch

    from worker.engine.request import GenerationOptions, Request
    from worker.engine.slots import SlotCache


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a row begins."""

    #: Tokens that the decoder goes on from, image tokens included. As in `generate`, repetition
    #: penalty and n-grams count them as said before.
    start: list[int]
    #: Tokens that an encoder reads, where the model has one besides the vision encoder.
    source: list[int] | None = None
    #: Tokens that a Q-Former reads, where it reads any.
    query: list[int] | None = None
    #: What the text says, for a model that does not repeat it: tokens may have lost some of it.
    words: str = ""


class Vision(Protocol):
    """What the engine asks of every model. Row i of a result belongs to row i of the input."""

    name: str
    revision: str  # short hash of weights, configuration, tokenizer, template and precision
    tasks: frozenset[str]
    precision: str
    image_size: int  # images arrive as image_size x image_size RGB
    resample: int  # the Pillow filter the checkpoint was trained with
    device: torch.device

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (n, size, size, 3), on any device, into features (n, tokens, hidden)."""


class Generator(Vision, Protocol):
    """A model that writes."""

    max_length: int  # tokens that a row of the decoder may have
    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]  # tokens the checkpoint never generates

    def prompt(self, request: Request) -> Prompt:
        """What a request's row begins with. Raises PromptTooLong, ValueError if it is no text."""

    def new_slots(self, rows: int) -> SlotCache:
        """An empty cache for `rows` rows."""

    def prefill(
        self, features: torch.Tensor, prompts: Sequence[Prompt], slots: SlotCache
    ) -> torch.Tensor:
        """Run newcomers through the decoder and append them to `slots`. Logits (n, vocabulary)."""

    def decode(self, slots: SlotCache, start: int, stop: int) -> torch.Tensor:
        """Feed the newest token of rows start..stop. Logits (n, vocabulary); does not advance."""

    def generate(
        self,
        features: torch.Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        """What transformers' own `generate` does: the new tokens of each row, ends included.

        Prompts have equal lengths. `stop` is asked after each step whether to leave off.
        """

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        """The answer in words: no special tokens, no outer spaces."""


class Matcher(Vision, Protocol):
    """A model that compares images and texts. Texts of a batch may have any lengths."""

    def tokens(self, text: str) -> list[int]:
        """A text as tokens. Raises PromptTooLong, ValueError if it is no text."""

    def match(
        self, features: torch.Tensor, texts: Sequence[list[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For each pair of a feature and a text: P(match) (n,) and cosine (n,), both float32."""

    def embed_images(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors (n, dim), float32."""

    def embed_texts(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Unit vectors (n, dim), float32."""


def as_generator(model: Generator | Matcher) -> Generator | None:
    """The model, if it writes."""
    return None if "match" in model.tasks else cast("Generator", model)


def as_matcher(model: Generator | Matcher) -> Matcher | None:
    """The model, if it compares."""
    return cast("Matcher", model) if "match" in model.tasks else None
