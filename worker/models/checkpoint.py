"""Opening a checkpoint: whatever goes wrong becomes one sentence that says what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from worker.models import LoadError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

#: Values of each tensor that enter the revision. A copy of all of them would take minutes for a
#: large model, and a fine-tuned tensor differs nearly everywhere.
SAMPLES = 256


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise LoadError(f"Unknown device {device!r}; use auto, cpu or cuda.") from error
    if picked.type not in ("cpu", "cuda"):
        raise LoadError(f"Device {device!r} is not supported; use auto, cpu or cuda.")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise LoadError("This machine has no usable CUDA device; use device cpu or auto.")
    return picked


def read_config(model: str) -> Any:
    """The configuration of a directory or hub name."""
    if looks_like_path(model) and not Path(model).is_dir():
        raise LoadError(f"Model directory {model!r} does not exist; check the path.")
    try:
        return AutoConfig.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error


def read_weights(network_class: Any, model: str, precision: str, device: torch.device) -> Any:
    """The network, complete and in evaluation mode, on `device`.

    By `from_pretrained(dtype=...)`: with fp16 it keeps in fp32 what must stay so (the Q-Former);
    `.half()` would not.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        network, report = network_class.from_pretrained(
            model, dtype=DTYPES[precision], output_loading_info=True
        )
    except Exception as error:
        raise unreadable(model, error) from error
    # transformers only warns, and fills what is missing with noise.
    if report["missing_keys"]:
        raise LoadError(
            f"Checkpoint {model!r} is incomplete: {len(report['missing_keys'])} tensors are"
            f" missing ({sorted(report['missing_keys'])[0]}, ...); download it again."
        )
    try:
        return network.eval().requires_grad_(False).to(device)
    except torch.OutOfMemoryError as error:
        raise LoadError(
            f"Model {model!r} in {precision} does not fit the memory of {device}; use a smaller"
            " precision or model."
        ) from error


def unreadable(model: str, error: Exception) -> LoadError:
    """A LoadError that says in one line what transformers says in many."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if looks_like_path(model) or Path(model).is_dir():
        remedy = "check that the directory holds a complete checkpoint"
    else:
        remedy = "check the name and the network, or give a local directory"
    return LoadError(f"Model {model!r} cannot be loaded; {remedy} ({first_line}).")


def looks_like_path(model: str) -> bool:
    """A hub name is `name` or `owner/name`; everything else is meant as a directory."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model


def fingerprint(network: Any, tokenizer: Any, *settings: str) -> str:
    """Twelve hex digits that change with weights, configuration, tokenizer and settings."""
    digest = hashlib.sha256()
    configuration = network.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version"):
        configuration.pop(volatile, None)
    digest.update(json.dumps([configuration, settings], sort_keys=True, default=str).encode())
    digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // SAMPLES)].contiguous().view(torch.uint8)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(sample.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
