"""The model classes that AutoModelForImageTextToText knows, by a checkpoint's configuration."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def model_class(config: Any) -> Any:
    """Return the class of a configuration's type; None if there is none."""
    return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), None)


def is_image_text(config: Any) -> bool:
    """Return whether a configuration is of an image-text model that generates text."""
    known = model_class(config)
    return known is not None and known.__name__ in (config.architectures or ())


def decoder_config(config: Any) -> Any:
    """Return the configuration of the decoder that writes the text."""
    return config.get_text_config(decoder=True)
