"""Sizes in a configuration that determine the memory of an image and of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from transformers.initialization import no_init_weights

from worker.engine.capacity import FIRST_CAPACITY
from worker.engine.errors import LoadError

#: Text tokens of an ordinary row: a question and a short answer.
TEXT_TOKENS: Final = 32


@dataclass(frozen=True)
class LayerShape:
    """Transformer layers in a forward pass of `tokens` positions."""

    tokens: int
    width: int
    inner: int  # width of the feed-forward part


@dataclass(frozen=True)
class KvShape:
    """The KV cache of an ordinary row: keys and values of (tokens, width) in each layer."""

    layers: int = 0
    width: int = 0
    #: Tokens of the row itself, and of the source that it attends to (an image, a question).
    tokens: int = 0
    source_tokens: int = 0


def skeleton(config: Any, network_class: Any = None) -> Any:
    """Build the network on the meta device: names, shapes and types without values.

    The class is that of the configuration by default. Raises LoadError.
    """
    names = config.architectures or ("",)
    network_class = network_class or getattr(transformers, names[0], None)
    if network_class is None:
        raise LoadError(f"transformers has no architecture {names[0]!r}; see config.json.")
    # Without: on the meta device, torch initialises each layer in Python.
    with torch.device("meta"), no_init_weights():
        network = network_class(config)
    network.tie_weights()
    head = network.get_output_embeddings()
    text = getattr(config, "text_config", None)
    # transformers reads the outer configuration, and turns that of Flan-T5, whose checkpoints have
    # an untied head, into scale_decoder_outputs=False.
    settings = ("tie_word_embeddings", "scale_decoder_outputs")
    if head is not None and not all(getattr(text, name, True) for name in settings):
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))
    return network


def position_bytes(decoder: Any, dtype: torch.dtype) -> int:
    """Return the bytes of a position's keys and values in any decoder; 0 if they are unknown."""
    layers = getattr(decoder, "num_hidden_layers", None)
    heads = getattr(decoder, "num_attention_heads", None)
    if not (layers and heads):
        return 0
    size = getattr(decoder, "head_dim", None) or getattr(decoder, "hidden_size", 0) // heads
    key_heads = getattr(decoder, "num_key_value_heads", None) or heads
    return int(2 * layers * key_heads * size * dtype.itemsize)


def vision_shape(config: Any) -> LayerShape:
    """Return the shape of the vision encoder's layers, for one image."""
    vision = config.vision_config
    patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
    # One position more, for the class token.
    return LayerShape(patches + 1, int(vision.hidden_size), int(vision.intermediate_size))


def text_shape(config: Any) -> LayerShape:
    """Return the shape of the layers that prefill a row."""
    text = _text_config(config)
    for name in ("ffn_dim", "d_ff", "intermediate_size"):
        inner = getattr(text, name, None)
        if inner is not None:
            break
    tokens = _image_tokens(config) + TEXT_TOKENS
    return LayerShape(tokens, int(text.hidden_size), int(inner or 4 * text.hidden_size))


def kv_shape(config: Any) -> KvShape:
    """Return the KV cache of an ordinary row; empty for a retrieval model."""
    text, architecture = config.text_config, (config.architectures or ("",))[0]
    if architecture.endswith("Retrieval"):
        return KvShape()
    image = _image_tokens(config) + TEXT_TOKENS
    if text.model_type == "opt":
        return KvShape(text.num_hidden_layers, text.hidden_size, _capacity(image))
    if text.model_type == "llama":
        width = text.num_key_value_heads * text.head_dim
        return KvShape(text.num_hidden_layers, width, _capacity(image))
    if text.model_type == "t5":
        width = text.num_heads * text.d_kv
        return KvShape(text.num_decoder_layers, width, _capacity(TEXT_TOKENS), _capacity(image))
    # BLIP: the captioner attends to the image, the VQA decoder to the encoded question.
    source = _capacity(TEXT_TOKENS)
    if architecture == "BlipForConditionalGeneration":
        source = _capacity(vision_shape(config).tokens)
    return KvShape(text.num_hidden_layers, text.hidden_size, _capacity(TEXT_TOKENS), source)


def vocab_size(config: Any) -> int:
    """Return the number of logits of a row; 0 for a retrieval model."""
    return int(config.text_config.vocab_size) if kv_shape(config).layers else 0


def _text_config(config: Any) -> Any:
    # BLIP-2 retrieval has no language model: the Q-Former reads the text.
    if (config.architectures or ("",))[0] == "Blip2ForImageTextRetrieval":
        return config.qformer_config
    return config.text_config


def _image_tokens(config: Any) -> int:
    """Return the image tokens before the text; 0 for BLIP."""
    return int(getattr(config, "num_query_tokens", 0))


def _capacity(tokens: int) -> int:
    # A slot's capacity is never smaller.
    return max(FIRST_CAPACITY, tokens)
