"""Processors of image-text models: transformers' own, without their video part.

Only files of the checkpoint are read, never code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot
from worker.models.checkpoint import load_error
from worker.models.image_text.architectures import decoder_config
from worker.models.tokenizer import check_class, check_vocabulary, check_vocabulary_files

#: Untyped classes of transformers.
IMAGES: Final[Any] = AutoImageProcessor
MULTIMODAL: Final[Any] = AutoProcessor
#: Type of models that read no text and have no common processor of images and texts.
CAPTION_ONLY: Final = "vision-encoder-decoder"
VIDEO: Final = "video_processor"


@dataclass(frozen=True, slots=True)
class Processor:
    """The parts that turn images and texts into a model's inputs, and tokens into text."""

    images: Any
    tokenizer: Any
    #: Processor of images with texts; None for a model that reads no text.
    multimodal: Any = None

    def check_backend(self, name: str, snapshot: Snapshot) -> None:
        """Check that the image processor has a setting's backend. Raises LoadError."""
        own = getattr(self.images, "backend", name)
        if name not in ("auto", own):
            raise LoadError(
                f"Model {snapshot.name!r} resizes images itself, with the backend {own!r} that"
                " transformers chooses (torchvision where it is installed); unset"
                " BLIPLINE_IMAGE_BACKEND."
            )


def read_processor(snapshot: Snapshot, config: Any) -> Processor:
    """Load the processor of a model with this configuration. Raises LoadError."""
    check_vocabulary_files(snapshot, snapshot.directory)
    try:
        processor = _read(snapshot, config)
    except Exception as error:
        # A tokenizer of a guessed class may not suit the processor.
        check_class(snapshot, snapshot.directory, None)
        raise load_error(snapshot, error) from error
    check_class(snapshot, snapshot.directory, processor.tokenizer)
    embeddings = int(decoder_config(config).vocab_size)
    check_vocabulary(snapshot, snapshot.directory, processor.tokenizer, embeddings)
    return processor


def _read(snapshot: Snapshot, config: Any) -> Processor:
    directory = snapshot.directory
    if config.model_type == CAPTION_ONLY:
        return Processor(
            IMAGES.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
        )
    processor_class: Any = PROCESSOR_MAPPING.get(type(config), None)
    if processor_class is not None and VIDEO in processor_class.get_attributes():
        multimodal = read_without_video(processor_class, snapshot)
    else:
        multimodal = MULTIMODAL.from_pretrained(directory)
    return Processor(multimodal.image_processor, multimodal.tokenizer, multimodal)


class WithoutVideo:
    """A mixin of processors whose video processor is None."""

    def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
        """Check a part of the processor, unless it is the missing video processor."""
        if name == VIDEO and argument is None:
            return None
        return super().check_argument_for_proper_class(name, argument)  # type: ignore[misc]


def read_without_video(processor_class: Any, snapshot: Snapshot) -> Any:
    """Load a processor without its video processor, which would need torchvision."""
    readers: dict[str, Any] = {"image_processor": IMAGES, "tokenizer": AutoTokenizer}
    settings, _ = processor_class.get_processor_dict(snapshot.directory)
    parts = [
        readers[name].from_pretrained(snapshot.directory) if name in readers else None
        for name in processor_class.get_attributes()
    ]
    image_class: Any = type(processor_class.__name__, (WithoutVideo, processor_class), {})
    return image_class.from_args_and_dict(parts, settings)
