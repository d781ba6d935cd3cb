"""Loading of a checkpoint's configuration and weights; every failure is a LoadError."""

from __future__ import annotations

import ctypes
import importlib.util
import json
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from worker.engine.device import free_bytes, pick_device
from worker.engine.errors import LoadError
from worker.hub.files import weights_variant
from worker.hub.reference import Snapshot
from worker.models.adapter import check_mergeable, hidden_adapter, merge_adapter
from worker.models.int8 import separate_rows
from worker.models.memory import estimate_plan
from worker.models.memory_shapes import skeleton
from worker.models.precision import check_available, make_plan, missing_package
from worker.models.registry import PRECISIONS
from worker.models.stored_quantization import (
    check_readable,
    dequantize,
    stored_method,
    without_quantization,
)

__all__ = ["load_error", "pick_device", "read_config", "read_weights"]


def read_config(snapshot: Snapshot) -> Any:
    """Load a checkpoint's configuration. Raises LoadError, also for weights that cannot be read."""
    try:
        config = AutoConfig.from_pretrained(snapshot.directory)
    except Exception as error:
        raise load_error(snapshot, error) from error
    check_readable(snapshot, config)
    return config


def read_weights(
    network_class: Any,
    snapshot: Snapshot,
    precision: str,
    device: torch.device,
    adapter_elements: int = 0,
) -> Any:
    """Load the complete network in evaluation mode onto `device`. Raises LoadError.

    The device must also have room for `adapter_elements` weights of named adapters.

    `from_pretrained(dtype=...)` keeps sensitive weights (the Q-Former) in fp32 with fp16; `.half()`
    would not.
    """
    config = read_config(snapshot)
    try:
        empty = skeleton(config, network_class)
    except LoadError:
        raise
    except Exception as error:
        raise load_error(snapshot, error) from error
    check_available(precision, empty)
    check_mergeable(snapshot)
    check_fits(snapshot.name, empty, precision, device, adapter_elements=adapter_elements)
    plan = make_plan(empty, precision, device)
    arguments = plan.arguments(empty)
    computed = snapshot.adapter is not None or stored_method(config) is not None
    if computed:
        check_host_memory(snapshot, empty)
        weights = _full_weights(network_class, snapshot, config)
        arguments |= {"state_dict": weights, "config": without_quantization(config)}
        del weights
    network = _from_pretrained(network_class, snapshot, device, arguments)
    del arguments
    if precision == "int8":
        separate_rows(network)
    if plan.quantized or computed:
        release_memory(network)
    return network.eval().requires_grad_(False)


def check_weights(network_class: Any, snapshot: Snapshot, config: Any) -> None:
    """Check that the files have all weights, by their names and shapes alone. Raises LoadError."""
    if stored_method(config) is None:
        _from_pretrained(network_class, snapshot, torch.device("meta"), {})


def _full_weights(network_class: Any, snapshot: Snapshot, config: Any) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights in fp32, dequantized and merged, in the host's memory."""
    if stored_method(config) is not None and (package := missing_package("int8")) is not None:
        raise LoadError(
            f"Model {snapshot.name!r} was saved quantized and needs the package {package}; install"
            " the packages of requirements.txt."
        )
    arguments = {"dtype": torch.float32}
    network = _from_pretrained(network_class, snapshot, torch.device("cpu"), arguments)
    if stored_method(config) is not None:
        network = dequantize(network, snapshot)
    if snapshot.adapter is not None:
        network = merge_adapter(network, snapshot)
    weights: dict[str, torch.Tensor] = network.state_dict()
    return weights


def _from_pretrained(
    network_class: Any, snapshot: Snapshot, device: torch.device, arguments: Any
) -> Any:
    """Load the network from its directory, or from `state_dict` if the arguments have one."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if importlib.util.find_spec("accelerate") is not None:
        # Load tensor by tensor to the device, without a complete copy on the host.
        arguments = {**arguments, "device_map": {"": str(device)}}
    try:
        # from_pretrained builds the network on the meta device; see `skeleton`. Values that no
        # file has are computed afterwards, also here. It changes torch for the whole process, in
        # which a single thread loads.
        with (
            hidden_adapter(snapshot.directory) as directory,
            no_init_weights(),
        ):
            network, report = network_class.from_pretrained(
                None if "state_dict" in arguments else directory,
                output_loading_info=True,
                variant=weights_variant(snapshot.directory),
                **arguments,
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
    if report["missing_keys"] and needs_own_code(snapshot):
        raise own_code_error(snapshot)
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
    *,
    adapter_elements: int = 0,
) -> None:
    """Check that weights, one image and one row fit the device. Raises LoadError."""

    def needed_in(name: str) -> int:
        plan = make_plan(network, name, device)
        return estimate_plan(network, plan, adapter_elements).least_bytes

    available = free(device)
    if needed_in(precision) <= available:
        return
    needed = {name: needed_in(name) for name in PRECISIONS}
    fitting = [
        f"{name} ({format_gigabytes(size)})" for name, size in needed.items() if size <= available
    ]
    raise LoadError(
        f"Model {model!r} needs {format_gigabytes(needed[precision])} in {precision}, and {device}"
        f" has {format_gigabytes(available)} free; precisions that fit:"
        f" {' or '.join(fitting) or 'none'}."
    )


def check_host_memory(
    snapshot: Snapshot, network: Any, free: Callable[[torch.device], int] = free_bytes
) -> None:
    """Check that the host's memory takes the weights in fp32. Raises LoadError."""
    needed = 4 * sum(parameter.numel() for parameter in network.parameters())
    available = free(torch.device("cpu"))
    if needed > available:
        raise LoadError(
            f"Model {snapshot.title!r} needs {format_gigabytes(needed)} of the host's memory while"
            f" it is merged or dequantized, and {format_gigabytes(available)} are free; save the"
            " result on a larger machine, and set BLIPLINE_MODEL to it."
        )


def format_gigabytes(count: int) -> str:
    """Format bytes in units of 10**9."""
    return f"{count / 1e9:.2f} GB"


def load_error(snapshot: Snapshot, error: Exception) -> LoadError:
    """Return a LoadError with a remedy and the first line of transformers' message."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if needs_own_code(snapshot):
        return own_code_error(snapshot)
    return LoadError(
        f"Model {snapshot.name!r} cannot be loaded; check that {str(snapshot.directory)!r} is a"
        f" complete checkpoint ({first_line})."
    )


def needs_own_code(snapshot: Snapshot) -> bool:
    """Return whether a configuration names code of its repository, which is never run."""
    try:
        return "auto_map" in json.loads((snapshot.directory / "config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


def own_code_error(snapshot: Snapshot) -> LoadError:
    """Return the error of a checkpoint that only its repository's own code can load."""
    return LoadError(
        f"Model {snapshot.name!r} was saved for the code of its repository (auto_map in"
        " config.json), which Blipline never runs; use a checkpoint in transformers' own format,"
        " often a conversion of the same model."
    )
