"""Models behind one small protocol. `load` picks the family by the checkpoint's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from worker.engine.slots import SlotCache

#: Question template of BLIP-2 (model card of Salesforce/blip2-opt-2.7b).
VQA_TEMPLATE = "Question: {question} Answer:"
PRECISIONS = ("fp32", "bf16", "fp16")


class LoadError(Exception):
    """The model cannot serve. The message is one sentence with a remedy, fit to be shown alone."""


class Model(Protocol):
    """What the engine asks of a family. Row i of a result always belongs to row i of the input."""

    name: str
    revision: str  # short hash of weights, configuration, tokenizer, template and precision
    tasks: frozenset[str]
    precision: str
    image_size: int  # images arrive as image_size x image_size RGB
    resample: int  # the Pillow filter the checkpoint was trained with
    device: torch.device
    max_length: int  # tokens a row may have, image tokens included
    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]  # tokens the checkpoint never generates

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (n, size, size, 3), on any device, into features (n, queries, hidden)."""

    def prompt(self, task: str, text: str) -> list[int]:
        """Token ids of the whole row before its first new token, image tokens included."""

    def new_slots(self, rows: int) -> SlotCache:
        """An empty cache for `rows` rows."""

    def prefill(
        self, features: torch.Tensor, prompts: Sequence[list[int]], slots: SlotCache
    ) -> torch.Tensor:
        """Run newcomers through the decoder and append them to `slots`. Logits (n, vocabulary)."""

    def decode(self, slots: SlotCache, start: int, stop: int) -> torch.Tensor:
        """Feed the newest token of rows start..stop. Logits (n, vocabulary); does not advance."""

    def text(self, task: str, prompt: list[int], new: list[int]) -> str:
        """The answer in words: no special tokens, no outer spaces."""


def load(
    model: str,
    precision: str = "auto",
    device: str = "auto",
    vqa_template: str = VQA_TEMPLATE,
) -> Model:
    """Load a directory or hub name. Raises LoadError.

    `device` is auto, cpu or cuda (or cuda:0 and so on); `precision` auto is fp16 on a GPU and fp32
    on a CPU.
    """
    # transformers takes seconds to import: not before it is needed.
    from worker.models import blip2, checkpoint

    if precision in ("int8", "int4"):
        raise LoadError(f"Precision {precision} is not yet available; use bf16 or fp16 instead.")
    if precision not in ("auto", *PRECISIONS):
        raise LoadError(f"Unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if "{question}" not in vqa_template:
        raise LoadError("The question template must contain {question}.")
    place = checkpoint.pick_device(device)
    if precision == "auto":
        precision = "fp16" if place.type == "cuda" else "fp32"
    config = checkpoint.read_config(model)
    family = (config.model_type, getattr(config.get_text_config(), "model_type", ""))
    if family == ("blip-2", "opt"):
        return blip2.open_checkpoint(model, config, precision, place, vqa_template)
    raise LoadError(
        f"Model {model!r} is of type {' with '.join(filter(None, family))}; what works is"
        " blip-2 with opt, such as Salesforce/blip2-opt-2.7b."
    )
