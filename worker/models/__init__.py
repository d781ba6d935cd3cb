"""Models behind two small protocols. `load` picks the family by the checkpoint's configuration.

A `Generator` writes text about an image, token by token; a `Matcher` compares images and texts in
one pass. What they share is `Vision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    import torch

    from worker.engine.request import GenerationOptions, Request
    from worker.engine.slots import SlotCache

#: Question template of BLIP-2 (model card of Salesforce/blip2-opt-2.7b).
VQA_TEMPLATE: Final = "Question: {question} Answer:"
PRECISIONS: Final = ("fp32", "bf16", "fp16", "int8", "int4")


class LoadError(Exception):
    """The model cannot serve. The message is one sentence with a remedy, fit to be shown alone."""


class PromptTooLong(ValueError):
    """A text has more tokens than the model reads; the message says how many of each."""


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


class Family(NamedTuple):
    """A kind of checkpoint, recognised by its configuration."""

    architecture: str
    #: The language model's type, where the architecture leaves it open.
    language: str | None
    example: str
    #: Module of this package, and its class whose `open` loads such a checkpoint.
    module: str
    kind: str

    def fits(self, config: Any) -> bool:
        """Whether this configuration is one of the family."""
        if self.architecture not in (config.architectures or ()):
            return False
        return self.language in (None, getattr(config.text_config, "model_type", None))


#: What works, by the names that checkpoints carry in config.json.
FAMILIES: Final = (
    Family("Blip2ForConditionalGeneration", "opt", "Salesforce/blip2-opt-2.7b", "blip2", "Blip2"),
    Family("Blip2ForConditionalGeneration", "t5", "Salesforce/blip2-flan-t5-xl", "blip2", "Blip2"),
    Family(
        "InstructBlipForConditionalGeneration",
        "t5",
        "Salesforce/instructblip-flan-t5-xl",
        "instructblip",
        "InstructBlip",
    ),
    Family(
        "BlipForConditionalGeneration",
        None,
        "Salesforce/blip-image-captioning-base",
        "blip_caption",
        "BlipCaption",
    ),
    Family("BlipForQuestionAnswering", None, "Salesforce/blip-vqa-base", "blip_vqa", "BlipVqa"),
    Family(
        "BlipForImageTextRetrieval",
        None,
        "Salesforce/blip-itm-base-coco",
        "blip_retrieval",
        "BlipRetrieval",
    ),
    Family(
        "Blip2ForImageTextRetrieval",
        None,
        "Salesforce/blip2-itm-vit-g",
        "blip2_retrieval",
        "Blip2Retrieval",
    ),
)


def load(
    model: str,
    precision: str = "auto",
    device: str = "auto",
    vqa_template: str = VQA_TEMPLATE,
) -> Generator | Matcher:
    """Load a directory or hub name. Raises LoadError.

    `device` is auto, cpu or cuda (or cuda:0 and so on); `precision` auto is fp16 on a GPU (bf16 for
    T5) and fp32 on a CPU. `vqa_template` is how a question reaches BLIP-2; other families have it
    as it is.
    """
    # transformers takes seconds to import: not before it is needed.
    from worker.models import checkpoint

    if precision not in ("auto", *PRECISIONS):
        raise LoadError(f"Unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if "{question}" not in vqa_template:
        raise LoadError("The question template must contain {question}.")
    place = checkpoint.pick_device(device)
    config = checkpoint.read_config(model)
    if precision == "auto":
        precision = automatic(config, place)
    family = find_family(model, config)
    settings = {"vqa_template": vqa_template} if family.module == "blip2" else {}
    kind = getattr(import_module(f"worker.models.{family.module}"), family.kind)
    loaded: Generator | Matcher = kind.open(model, config, precision, place, **settings)
    return loaded


def automatic(config: Any, device: torch.device) -> str:
    """fp32 on a CPU, where only that is exact; on a GPU fp16, but bf16 for T5, which overflows."""
    if device.type != "cuda":
        return "fp32"
    language = getattr(getattr(config, "text_config", None), "model_type", None)
    return "bf16" if language == "t5" else "fp16"


def find_family(model: str, config: Any) -> Family:
    """The family of a configuration; raises LoadError with the list of those that work."""
    for family in FAMILIES:
        if family.fits(config):
            return family
    language = getattr(getattr(config, "text_config", None), "model_type", None)
    named = ", ".join(config.architectures or ()) or f"a {config.model_type} of no architecture"
    known = "; ".join(
        f"{one.architecture}{f' with {one.language}' if one.language else ''} ({one.example})"
        for one in FAMILIES
    )
    with_language = f" with {language}" if language else ""
    raise LoadError(f"Model {model!r} is {named}{with_language}; what works is {known}.")
