"""The sizes in a configuration that decide what an image and a row take of the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from worker.engine.errors import LoadError
from worker.engine.slots import FIRST_CAPACITY

#: Text tokens of an ordinary row: a question and a short answer.
TEXT_TOKENS: Final = 32


@dataclass(frozen=True)
class LayerShape:
    """Transformer layers that `tokens` positions pass at once."""

    tokens: int
    width: int
    inner: int  # of the layers' feed-forward part


@dataclass(frozen=True)
class KvShape:
    """What the slots keep of an ordinary row: keys and values of (tokens, width) in each layer."""

    layers: int = 0
    width: int = 0
    #: Its own, and those of the source that each of them looks at (an image, a question).
    tokens: int = 0
    source_tokens: int = 0


def skeleton(config: Any, network_class: Any = None) -> Any:
    """The network on the meta device: names, shapes and types without values.

    By default of the class that the configuration names. Raises LoadError.
    """
    names = config.architectures or ("",)
    network_class = network_class or getattr(transformers, names[0], None)
    if network_class is None:
        raise LoadError(f"transformers has no architecture {names[0]!r}; see config.json.")
    with torch.device("meta"):
        network = network_class(config)
    head = network.get_output_embeddings()
    if head is not None and not getattr(config.text_config, "tie_word_embeddings", True):
        # transformers asks the outer configuration; Flan-T5's checkpoints have a head of their own.
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))
    return network


def vision_stack(config: Any) -> LayerShape:
    """The vision encoder, for one image."""
    vision = config.vision_config
    patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
    # One more: the token that stands for the whole image.
    return LayerShape(patches + 1, int(vision.hidden_size), int(vision.intermediate_size))


def text_stack(config: Any) -> LayerShape:
    """What a row's prompt passes."""
    text = _text_config(config)
    for name in ("ffn_dim", "d_ff", "intermediate_size"):
        inner = getattr(text, name, None)
        if inner is not None:
            break
    tokens = _image_tokens(config) + TEXT_TOKENS
    return LayerShape(tokens, int(text.hidden_size), int(inner or 4 * text.hidden_size))


def row(config: Any) -> KvShape:
    """What the slots keep; nothing where a model only compares."""
    text, architecture = config.text_config, (config.architectures or ("",))[0]
    if architecture.endswith("Retrieval"):
        return KvShape()
    image = _image_tokens(config) + TEXT_TOKENS
    if text.model_type == "opt":
        return KvShape(text.num_hidden_layers, text.hidden_size, _capacity(image))
    if text.model_type == "t5":
        width = text.num_heads * text.d_kv
        return KvShape(text.num_decoder_layers, width, _capacity(TEXT_TOKENS), _capacity(image))
    # BLIP: a captioner looks at the image itself, one that answers at what it read.
    source = _capacity(TEXT_TOKENS)
    if architecture == "BlipForConditionalGeneration":
        source = _capacity(vision_stack(config).tokens)
    return KvShape(text.num_hidden_layers, text.hidden_size, _capacity(TEXT_TOKENS), source)


def vocabulary(config: Any) -> int:
    """Logits of a row; none where a model only compares."""
    return int(config.text_config.vocab_size) if row(config).layers else 0


def _text_config(config: Any) -> Any:
    # BLIP-2's retrieval has no language model: the Q-Former reads the text.
    if (config.architectures or ("",))[0] == "Blip2ForImageTextRetrieval":
        return config.qformer_config
    return config.text_config


def _image_tokens(config: Any) -> int:
    """Image tokens that stand before the text: none in BLIP."""
    return int(getattr(config, "num_query_tokens", 0))


def _capacity(tokens: int) -> int:
    # A slot never has room for less.
    return max(FIRST_CAPACITY, tokens)
