"""A checkpoint, opened: what every family begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import AutoTokenizer

from worker.models.checkpoint import fingerprint, read_weights, unreadable
from worker.models.pixels import Pixels, read_processor
from worker.models.vision import VisionTower


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint consists of. `network` is in evaluation mode, on its device."""

    name: str
    revision: str
    precision: str
    network: Any
    tokenizer: Any
    processor: Any


class VisionModel:
    """The image side, alike in all families; features are what the vision encoder gives."""

    #: The class of transformers that the checkpoint is one of.
    network_class: ClassVar[Any]
    tasks: frozenset[str]

    def __init__(self, parts: Checkpoint) -> None:
        self.name, self.revision, self.precision = parts.name, parts.revision, parts.precision
        self.network, self.tokenizer = parts.network, parts.tokenizer
        self.device: torch.device = self.network.device
        side = int(self.network.config.vision_config.image_size)
        self.pixels = Pixels(parts.processor, side, self.device)
        self.image_size, self.resample = side, self.pixels.resample
        self.tower = VisionTower(self.network.vision_model)

    @classmethod
    def open(
        cls, model: str, config: Any, precision: str, device: torch.device, **settings: str
    ) -> Self:
        """Load a directory or hub name whose configuration was read already. Raises LoadError."""
        processor, tokenizer = read_processor(model, config), read_tokenizer(model)
        network = read_weights(cls.network_class, model, precision, device)
        seen = processor.to_json_string()
        revision = fingerprint(network, tokenizer, seen, *settings.values())
        return cls(
            Checkpoint(model, revision, precision, network, tokenizer, processor), **settings
        )

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (n, 1 + patches, hidden of the vision model)."""
        return self.tower(self.pixels(pixels))


def read_tokenizer(model: str, **where: str) -> Any:
    """A checkpoint's tokenizer. Raises LoadError."""
    try:
        return AutoTokenizer.from_pretrained(model, **where)
    except Exception as error:
        raise unreadable(model, error) from error
