"""The roofline of a device for a BLIP-2 with OPT, computed from its shapes.

Vision encoder, Q-Former and prefill are compute-bound; a decode step is bound by reading every
weight of the language model, and the keys and values of every row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Peak:
    """Peak throughput of a device per second: floating-point operations and memory bytes."""

    flops: float
    bytes: float


#: Data sheets: TFLOP/s of dense products in half precision, TOP/s in int8, TB/s of memory.
DEVICES: Final = {
    "H200": (989, 1979, 4.8),
    "H100": (989, 1979, 3.35),
    "A100": (312, 624, 2.04),
    "A10": (125, 250, 0.6),
    "L4": (121, 242, 0.3),
    "T4": (65, 130, 0.32),
}
#: Shares of the data sheet that large products and copies reach; measured on an H200: 790 of 989
#: TFLOP/s, and 4.3 of 4.8 TB/s.
FLOPS_REACHED, BYTES_REACHED = 0.8, 0.9


def known_peak(device_name: str, precision: str) -> Peak | None:
    """Return the reachable peak of a device; None if it is not in the table."""
    for name, (half, int8, memory) in DEVICES.items():
        if re.search(rf"\b{name}\b", device_name) and precision != "fp32":
            products = int8 if precision == "int8" else half
            return Peak(products * FLOPS_REACHED * 1e12, memory * BYTES_REACHED * 1e12)
    return None


@dataclass(frozen=True)
class Work:
    """Cost of an image and of a token: FLOP and bytes read."""

    vision_flops: float
    qformer_flops: float
    #: Operations of a token in the layers, of attending to one token, and of a row's logits.
    token_flops: float
    attended_flops: float
    logit_flops: float
    #: Bytes read once per batch: by the encoders, and by each step of the language model.
    encoder_bytes: float
    language_bytes: float
    #: Keys and values of a token.
    token_bytes: float


def count(config: Any, element: int, matrix_element: int) -> Work:
    """Count the work of a Blip2Config with OPT, given the bytes of elements and matrix elements."""
    vision, text = config.vision_config, config.text_config
    width = text.hidden_size
    matrices = text.num_hidden_layers * (4 * width**2 + 2 * width * text.ffn_dim)
    head = width * text.vocab_size
    layer_weights = matrices_of(vision.hidden_size, vision.intermediate_size)
    return Work(
        vision_flops=vision_flops(vision),
        qformer_flops=qformer_flops(config),
        token_flops=2 * matrices,
        attended_flops=4 * width * text.num_hidden_layers,
        logit_flops=2 * head,
        encoder_bytes=vision.num_hidden_layers * layer_weights * matrix_element,
        language_bytes=matrices * matrix_element + head * element,
        token_bytes=2 * width * text.num_hidden_layers * element,
    )


def matrices_of(width: int, inner: int) -> int:
    """Return the weights of a layer: queries, keys, values, output, and the feed-forward part."""
    return 4 * width**2 + 2 * width * inner


def patches(vision: Any) -> int:
    """Return the positions of the vision encoder, the class token included."""
    return int(vision.image_size // vision.patch_size) ** 2 + 1


def vision_flops(vision: Any) -> float:
    """Return the vision encoder's FLOP of an image."""
    tokens, width = patches(vision), vision.hidden_size
    layer = 2 * matrices_of(width, vision.intermediate_size) + 4 * tokens * width
    embedding = 2 * (tokens - 1) * 3 * vision.patch_size**2 * width
    return float(tokens * layer * vision.num_hidden_layers + embedding)


def qformer_flops(config: Any) -> float:
    """Return the Q-Former's FLOP of an image; some layers have cross-attention."""
    former, tokens = config.qformer_config, patches(config.vision_config)
    queries, width = config.num_query_tokens, former.hidden_size
    layer = queries * (2 * matrices_of(width, former.intermediate_size) + 4 * queries * width)
    cross = queries * (4 * width**2 + 4 * tokens * width)
    cross += tokens * 4 * config.vision_config.hidden_size * width
    cross_layers = -(-former.num_hidden_layers // former.cross_attention_frequency)
    projection = 2 * queries * width * config.text_config.hidden_size
    return float(former.num_hidden_layers * layer + cross_layers * cross + projection)


@dataclass(frozen=True)
class Roofline:
    """The minimum time of work on a device, in seconds."""

    work: Work
    peak: Peak

    def encode_s(self, images: int) -> float:
        """Return the seconds of vision encoder, Q-Former and projection."""
        flops = images * (self.work.vision_flops + self.work.qformer_flops)
        return self._longer(flops, self.work.encoder_bytes)

    def prefill_s(self, rows: int, tokens: int) -> float:
        """Return the seconds of a prefill; a token attends to half of the tokens on average."""
        row = tokens * (self.work.token_flops + self.work.attended_flops * tokens / 2)
        return self._longer(rows * (row + self.work.logit_flops), self.work.language_bytes)

    def step_s(self, rows: int, length: float) -> float:
        """Return the seconds of a decode step of rows of a length."""
        work = self.work
        flops = work.token_flops + work.logit_flops + work.attended_flops * length
        read = work.language_bytes + rows * length * work.token_bytes
        return self._longer(rows * flops, read)

    def captions_per_s(self, rows: int, prompt: int, new: int) -> float:
        """Return captions per second of `new` tokens each; the prefill yields the first one."""
        steps = (new - 1) * self.step_s(rows, prompt + new / 2)
        return rows / (self.encode_s(rows) + self.prefill_s(rows, prompt) + steps)

    def _longer(self, flops: float, read: float) -> float:
        return max(flops / self.peak.flops, read / self.peak.bytes)
