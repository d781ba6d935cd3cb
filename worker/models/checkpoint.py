"""Opening a checkpoint: whatever goes wrong becomes one sentence that says what to do."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from worker.engine.device import free_bytes, pick_device
from worker.engine.errors import LoadError
from worker.models.int8 import separate_rows
from worker.models.memory import estimate_plan
from worker.models.memory_shapes import skeleton
from worker.models.precision import check_available, make_plan
from worker.models.registry import PRECISIONS

__all__ = ["fingerprint", "pick_device", "read_config", "read_weights", "unreadable"]

#: Values of each tensor that enter the revision. A copy of all of them would take minutes for a
#: large model, and a fine-tuned tensor differs nearly everywhere.
SAMPLES = 256


def read_config(model: str) -> Any:
    """The configuration of a directory or hub name."""
    if looks_like_path(model) and not Path(model).is_dir():
        raise LoadError(f"Model directory {model!r} does not exist; check the path.")
    try:
        return AutoConfig.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error


def read_weights(network_class: Any, model: str, precision: str, device: torch.device) -> Any:
    """The network, complete and in evaluation mode, on `device`. Raises LoadError.

    By `from_pretrained(dtype=...)`: with fp16 it keeps in fp32 what must stay so (the Q-Former);
    `.half()` would not.
    """
    try:
        empty = skeleton(read_config(model), network_class)
    except LoadError:
        raise
    except Exception as error:
        raise unreadable(model, error) from error
    check_available(precision, empty)
    check_fits(model, empty, precision, device)
    plan = make_plan(empty, precision, device)
    network = _from_pretrained(network_class, model, device, plan.arguments(empty))
    if precision == "int8":
        separate_rows(network)
    if plan.quantized:
        give_back(network)
    return network.eval().requires_grad_(False)


def _from_pretrained(network_class: Any, model: str, device: torch.device, how: Any) -> Any:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if importlib.util.find_spec("accelerate") is not None:
        # Straight to the device: tensor by tensor, without a whole copy on the host.
        how = {**how, "device_map": {"": str(device)}}
    try:
        network, report = network_class.from_pretrained(model, output_loading_info=True, **how)
        network = network.to(device) if "device_map" not in how else network
    except torch.OutOfMemoryError as error:
        raise LoadError(
            f"Model {model!r} does not fit the memory of {device}; use a smaller precision or"
            " another model."
        ) from error
    except Exception as error:
        raise unreadable(model, error) from error
    # transformers only warns, and fills what is missing with noise.
    if report["missing_keys"]:
        raise LoadError(
            f"Checkpoint {model!r} is incomplete: {len(report['missing_keys'])} tensors are"
            f" missing ({sorted(report['missing_keys'])[0]}, ...); download it again."
        )
    return network


def give_back(network: Any) -> None:
    """Free what reading a quantized network leaves behind on a CPU."""
    for one in network.parameters():
        if type(one) is torch.nn.Parameter and one.device.type == "cpu":
            # Not quantized: a view of the mapped file, and it keeps all of it in memory.
            one.data = one.data.clone()
    # glibc keeps the matrices as they were before: 1.2 GB of blip2-opt-2.7b's 5.5 in int8.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def check_fits(
    model: str,
    network: Any,
    precision: str,
    device: torch.device,
    free: Callable[[torch.device], int] = free_bytes,
) -> None:
    """Raises LoadError if the device has no room for weights, one image and one row."""
    there = free(device)
    needed = {
        one: estimate_plan(network, make_plan(network, one, device)).least_bytes
        for one in PRECISIONS
    }
    if needed[precision] <= there:
        return
    fitting = [f"{one} ({gigabytes(needed[one])})" for one in PRECISIONS if needed[one] <= there]
    raise LoadError(
        f"Model {model!r} needs {gigabytes(needed[precision])} in {precision}, and {device} has"
        f" {gigabytes(there)} free; what would fit is {' or '.join(fitting) or 'no precision'}."
    )


def gigabytes(count: int) -> str:
    """Bytes in words, in units of 10**9."""
    return f"{count / 1e9:.2f} GB"


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
