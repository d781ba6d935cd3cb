"""The part of a model that every family shares: a loaded checkpoint and its image encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from worker.engine.errors import LoadError
from worker.engine.frame import ImageBackend
from worker.engine.row_adapters import RowAdapters
from worker.hub.reference import Snapshot
from worker.models.checkpoint import check_weights, read_weights
from worker.models.lora_weights import NamedAdapters
from worker.models.pixels import Normalizer, choose_backend, fit_input, read_processor
from worker.models.precision import dtype_of
from worker.models.revision import CheckpointFiles, revision
from worker.models.token_texts import TokenTexts
from worker.models.tokenizer import read_tokenizer
from worker.models.vision import VisionTower


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a loaded checkpoint. `network` is in evaluation mode, on its device."""

    snapshot: Snapshot
    revision: str
    precision: str
    network: Any
    tokenizer: Any
    processor: Any
    image_backend: ImageBackend = "pil"
    adapters: RowAdapters = field(default_factory=RowAdapters)


class VisionModel:
    """A model's image side. Features are the vision encoder's output, unless overridden."""

    #: The transformers class of the checkpoint's network.
    network_class: ClassVar[Any]
    #: The parts of the network that compute the features of an image.
    image_modules: ClassVar[tuple[str, ...]] = ("vision_model",)
    tasks: frozenset[str]
    keeps_proportions = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        snapshot, self.revision = checkpoint.snapshot, checkpoint.revision
        self.name, self.commit = snapshot.title, snapshot.commits
        self.precision, self.adapters = checkpoint.precision, checkpoint.adapters
        self.network, self.tokenizer = checkpoint.network, checkpoint.tokenizer
        self.device: torch.device = self.network.device
        self.image_backend = checkpoint.image_backend
        self.normalize = Normalizer(checkpoint.processor, snapshot, self.device, self.image_backend)
        self.frame, self.resample = self.normalize.frame, self.normalize.resample
        self.image_size = max(self.frame.height, self.frame.width)
        fit_input(self.network, *self.normalize.shape)
        self.tower = VisionTower(self.network.vision_model, self.adapters)

    @classmethod
    def open(
        cls,
        snapshot: Snapshot,
        config: Any,
        precision: str,
        device: torch.device,
        image_backend: str,
        **settings: str,
    ) -> Self:
        """Load a checkpoint with the configuration `config`. Raises LoadError."""
        checkpoint = cls.read_checkpoint(
            snapshot, config, precision, device, image_backend, *settings.values()
        )
        return cls(checkpoint, **settings)

    @classmethod
    def read_checkpoint(
        cls,
        snapshot: Snapshot,
        config: Any,
        precision: str,
        device: torch.device,
        image_backend: str,
        *settings: str,
    ) -> Checkpoint:
        """Read all parts of a checkpoint; `settings` are part of its revision. Raises LoadError."""
        if snapshot.adapters and "match" in cls.tasks:
            raise LoadError(
                f"Model {snapshot.name!r} compares images and texts, and only models that generate"
                " text have adapters of items; unset BLIPLINE_ADAPTERS, or set BLIPLINE_ADAPTER to"
                " the adapter."
            )
        with CheckpointFiles(snapshot) as files:
            processor, tokenizer = cls.read_processors(snapshot, config)
            backend = choose_backend(image_backend, processor, snapshot)
            named = NamedAdapters(snapshot, config, cls.network_class)
            network = read_weights(cls.network_class, snapshot, precision, device, named.elements)
            number = revision(files, network, precision, backend, *settings)
        dtype = dtype_of(network, precision, device)
        adapters = named.add_to(network, dtype, cls.image_modules)
        return Checkpoint(
            snapshot, number, precision, network, tokenizer, processor, backend, adapters
        )

    @classmethod
    def read_processors(cls, snapshot: Snapshot, config: Any) -> tuple[Any, Any]:
        """Read the processor of images and the tokenizer. Raises LoadError."""
        return read_processor(snapshot, config), read_tokenizer(snapshot, cls.embeddings(config))

    @classmethod
    def check_files(cls, snapshot: Snapshot, config: Any) -> None:
        """Check all files of a checkpoint without reading its weights. Raises LoadError."""
        cls.read_processors(snapshot, config)
        check_weights(cls.network_class, snapshot, config)

    @classmethod
    def family_tasks(cls, config: Any) -> frozenset[str]:
        """Return the tasks of a model with this configuration."""
        return cls.tasks

    @classmethod
    def embeddings(cls, config: Any) -> int:
        """Return the number of token embeddings of the text model that reads the user's texts."""
        return int(config.text_config.vocab_size)

    @cached_property
    def token_texts(self) -> TokenTexts:
        """The texts of the tokens."""
        return TokenTexts(self.tokenizer)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return features (n, 1 + patches, hidden of the vision model)."""
        return self.tower(self.normalize(pixels))
