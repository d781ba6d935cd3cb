"""Checkpoints that were saved quantized.

Those of bitsandbytes, in 8 and in 4 bits, are dequantized as transformers does it; then the
precision of the setting applies as to any other checkpoint. Other methods need their own kernels.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot

BITSANDBYTES: Final = "bitsandbytes"


def stored_method(config: Any) -> str | None:
    """Return the method by which a checkpoint's weights are quantized, or None."""
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return None
    settings = stored if isinstance(stored, dict) else stored.to_dict()
    if settings.get("load_in_8bit") or settings.get("load_in_4bit"):
        # Older ones do not name their method.
        return BITSANDBYTES
    return str(settings.get("quant_method") or "an unknown method").lower()


def check_readable(snapshot: Snapshot, config: Any) -> None:
    """Check that a checkpoint's weights can be dequantized. Raises LoadError."""
    method = stored_method(config)
    if method not in (None, BITSANDBYTES):
        raise LoadError(
            f"Model {snapshot.name!r} was saved quantized by {method}, which a worker does not"
            " read; set BLIPLINE_MODEL to the model that it was made from, with"
            " BLIPLINE_PRECISION=int8 or int4 to quantize it."
        )


def dequantize(network: Any, snapshot: Snapshot) -> Any:
    """Return a network of bitsandbytes as plain matrices in fp32. Raises LoadError."""
    try:
        # transformers loads the weights that are not quantized in the type in which they are saved.
        return network.dequantize(dtype=torch.float32).float()
    except Exception as error:
        raise LoadError(
            f"Model {snapshot.name!r} was saved quantized and cannot be dequantized ({error}); save"
            " it again, or set BLIPLINE_MODEL to the model that it was made from."
        ) from error


def without_quantization(config: Any) -> Any:
    """Return a configuration for weights that are no longer quantized; changes it in place."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
