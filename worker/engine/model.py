"""Protocols that a model implements for the engine.

A `Generator` generates text for an image, token by token; a `Matcher` compares images and texts in
one forward pass. Both encode images as a `Vision` does. A `GroupGenerator` generates text by
transformers' own `generate`, for a group of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch

    from worker.engine.frame import Frame, ImageBackend
    from worker.engine.request import GenerationOptions, Request
    from worker.engine.row_adapters import RowAdapters
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


class Model(Protocol):
    """The description of every model. Row i of a result belongs to row i of the input."""

    name: str
    revision: str  # short hash of everything that determines its answers
    commit: str  # of the hub; empty for a directory
    tasks: frozenset[str]
    precision: str
    image_size: int  # the side of its input, or the longer one
    resample: int  # the Pillow filter the checkpoint was trained with
    #: Images arrive as PPM files (P6) of at most image_size x image_size pixels, in the
    #: proportions of the original.
    keeps_proportions: bool
    image_backend: ImageBackend
    device: torch.device
    adapters: RowAdapters


class Vision(Model, Protocol):
    """The image side of a model with a vision encoder of its own."""

    frame: Frame  # images arrive as frame.height x frame.width RGB

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode uint8 (n, height, width, 3), on any device, as features (n, tokens, hidden)."""


class TokenIds(Protocol):
    """The tokens of a model that generates text."""

    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]  # tokens the checkpoint never generates


class TextGenerator(Model, Protocol):
    """The text side of every model that generates text."""

    @property
    def decoder(self) -> TokenIds:
        """The tokens that it generates."""

    @property
    def token_texts(self) -> TokenVocabulary:
        """The texts of its tokens."""

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        """Return the answer as text, without special tokens and surrounding spaces."""


class TextDecoder(TokenIds, Protocol):
    """The text decoder of a generator; its keys and values are stored in a `SlotCache`."""

    #: Tokens of a row, prompt included: one more than it has positions, as the last token of an
    #: answer is never an input.
    max_length: int

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


class Generator(Vision, TextGenerator, Protocol):
    """A model that generates text."""

    @property
    def decoder(self) -> TextDecoder:
        """The text decoder."""

    def prompt(self, request: Request) -> Prompt:
        """Build the prompt of a request. Raises PromptTooLong; ValueError for invalid Unicode."""

    def condition(self, features: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Return the decoder's inputs: image features, in some models combined with texts."""


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


@dataclass(frozen=True, slots=True)
class GroupInputs:
    """The inputs of a group of rows, from the model's own processor."""

    #: Arguments of `generate`, on the model's device.
    arguments: dict[str, Any]
    #: Prompt of each row, image tokens included, without padding.
    prompts: list[Prompt]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt; 1, the start token, for a model that reads no text."""
        return [len(prompt.start) + len(prompt.source or ()) or 1 for prompt in self.prompts]


class GroupGenerator(TextGenerator, Protocol):
    """A model that generates text by transformers' own `generate`."""

    #: Bytes of a position's keys and values; 0 if they are unknown.
    token_bytes: int

    def check(self, request: Request) -> None:
        """Check a request's text. Raises ValueError for invalid Unicode or a refused prompt."""

    def collate(self, requests: Sequence[Request]) -> GroupInputs:
        """Run the processor on images and prompts. Raises InputRefused."""

    def limit_error(self, length: int, new: int) -> str | None:
        """Return the error of a prompt of `length` tokens with `new` further ones, or None."""

    def generate(
        self,
        inputs: GroupInputs,
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        """Return each row's sequences, the best first; none for logits that are not finite.

        `stop` is called after each token; True ends the call.
        """

    def first_logits(self, inputs: GroupInputs, steps: int) -> tuple[list[list[int]], torch.Tensor]:
        """Return each row's first greedy tokens, and their logits (n, steps, vocabulary)."""


#: A model of any kind.
AnyModel = Generator | Matcher | GroupGenerator


def as_generator(model: AnyModel) -> Generator | None:
    """Return the model if it generates text in flight, else None."""
    if as_matcher(model) is not None or as_group_generator(model) is not None:
        return None
    return cast("Generator", model)


def as_matcher(model: AnyModel) -> Matcher | None:
    """Return the model if it compares images and texts, else None."""
    return cast("Matcher", model) if "match" in model.tasks else None


def as_group_generator(model: AnyModel) -> GroupGenerator | None:
    """Return the model if it generates text in groups, else None."""
    # It has no vision encoder of its own.
    return None if hasattr(model, "encode") else model
