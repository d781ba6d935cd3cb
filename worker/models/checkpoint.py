"""Loading of a checkpoint's configuration and weights; every failure is a LoadError."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from worker.engine.device import free_bytes, pick_device
from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot
from worker.models.int8 import separate_rows
from worker.models.memory import estimate_plan
from worker.models.memory_shapes import skeleton
from worker.models.precision import check_available, make_plan
from worker.models.registry import PRECISIONS

__all__ = ["load_error", "pick_device", "read_config", "read_weights"]


def read_config(snapshot: Snapshot) -> Any:
    """Load a checkpoint's configuration. Raises LoadError."""
    try:
        return AutoConfig.from_pretrained(snapshot.directory)
    except Exception as error:
        raise load_error(snapshot, error) from error


def read_weights(
    network_class: Any, snapshot: Snapshot, precision: str, device: torch.device
) -> Any:
    """Load the complete network in evaluation mode onto `device`. Raises LoadError.

    `from_pretrained(dtype=...)` keeps sensitive weights (the Q-Former) in fp32 with fp16; `.half()`
    would not.
    """
    try:
        empty = skeleton(read_config(snapshot), network_class)
    except LoadError:
        raise
    except Exception as error:
        raise load_error(snapshot, error) from error
    check_available(precision, empty)
    check_fits(snapshot.name, empty, precision, device)
    plan = make_plan(empty, precision, device)
    network = _from_pretrained(network_class, snapshot, device, plan.arguments(empty))
    if precision == "int8":
        separate_rows(network)
    if plan.quantized:
        release_memory(network)
    return network.eval().requires_grad_(False)


def _from_pretrained(
    network_class: Any, snapshot: Snapshot, device: torch.device, arguments: Any
) -> Any:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if importlib.util.find_spec("accelerate") is not None:
        # Load tensor by tensor to the device, without a complete copy on the host.
        arguments = {**arguments, "device_map": {"": str(device)}}
    try:
        network, report = network_class.from_pretrained(
            snapshot.directory, output_loading_info=True, **arguments
        )
        network = network.to(device) if "device_map" not in arguments else network
    except torch.OutOfMemoryError as error:
        raise LoadError(
            f"Model {snapshot.name!r} does not fit the memory of {device}; use a smaller precision"
            " or another model."
        ) from error
    except Exception as error:
        raise load_error(snapshot, error) from error
    # transformers only warns, and initialises missing weights at random.
    if report["missing_keys"]:
        raise LoadError(
            f"Checkpoint {snapshot.name!r} is incomplete: {len(report['missing_keys'])} tensors are"
            f" missing ({sorted(report['missing_keys'])[0]}, ...); download it again."
        )
    return network


def release_memory(network: Any) -> None:
    """Free the memory that loading a quantized network leaves allocated on a CPU."""
    for parameter in network.parameters():
        if type(parameter) is torch.nn.Parameter and parameter.device.type == "cpu":
            # A weight that is not quantized is a view of the mapped file and keeps it in memory.
            parameter.data = parameter.data.clone()
    # glibc keeps the memory of the unquantized matrices: 1.2 GB of blip2-opt-2.7b's 5.5 in int8.
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
    """Check that weights, one image and one row fit the device. Raises LoadError."""
    available = free(device)
    needed = {
        name: estimate_plan(network, make_plan(network, name, device)).least_bytes
        for name in PRECISIONS
    }
    if needed[precision] <= available:
        return
    fitting = [
        f"{name} ({format_gigabytes(size)})" for name, size in needed.items() if size <= available
    ]
    raise LoadError(
        f"Model {model!r} needs {format_gigabytes(needed[precision])} in {precision}, and {device}"
        f" has {format_gigabytes(available)} free; precisions that fit:"
        f" {' or '.join(fitting) or 'none'}."
    )


def format_gigabytes(count: int) -> str:
    """Format bytes in units of 10**9."""
    return f"{count / 1e9:.2f} GB"


def load_error(snapshot: Snapshot, error: Exception) -> LoadError:
    """Return a LoadError with a remedy and the first line of transformers' message."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return LoadError(
        f"Model {snapshot.name!r} cannot be loaded; check that {str(snapshot.directory)!r} is a"
        f" complete checkpoint ({first_line})."
    )
