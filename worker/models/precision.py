"""Precisions: the data type of each weight.

`fp32`, `bf16` and `fp16` are the type of every weight, except that fp16 leaves in fp32 the weights
that transformers lists for a model (BLIP-2's Q-Former, T5's `wo`): their activations exceed fp16's
range. `int8` and `int4` quantize the matrices of the vision encoder's and the language model's
layers; embeddings, Q-Former, projections, heads, norms and biases stay in a half-precision type.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from worker.engine.errors import LoadError

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUANTIZED: Final = ("int8", "int4")

#: Names of weights in a numbered layer; embeddings, projections and heads have no number.
IN_LAYER: Final = re.compile(r"\.\d+\.")
#: Block sizes of bitsandbytes' kernel for CPUs with bf16 instructions.
INT4_OUT, INT4_IN = 32, 64
#: Logger of bitsandbytes' import-time warning about an optional package that is not needed.
CPU_KERNELS: Final = "bitsandbytes.backends.cpu.ops"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The storage of a network in one precision on one kind of device."""

    precision: str
    #: Kind of device: cpu or cuda.
    device: str
    #: Type of all other weights, of activations, keys and values.
    dtype: torch.dtype
    #: Linear modules whose weight is quantized.
    quantized: frozenset[str]
    #: Parameters that stay in fp32 although `dtype` is a half-precision type.
    fp32: frozenset[str]

    def arguments(self, network: Any) -> dict[str, Any]:
        """Return the arguments of `from_pretrained` for the network of this plan."""
        if self.precision not in QUANTIZED:
            return {"dtype": self.dtype}
        modules = network.named_modules()
        linears = {name for name, module in modules if isinstance(module, nn.Linear)}
        return {
            "dtype": self.dtype,
            "quantization_config": _bitsandbytes(
                self.precision, self.dtype, sorted(linears - self.quantized)
            ),
        }


def make_plan(network: Any, precision: str, device: torch.device) -> Plan:
    """Build the plan of a network, which may be on the meta device."""
    dtype = dtype_of(network, precision, device)
    patterns = fp32_patterns(network, dtype)
    quantized = frozenset[str]()
    if precision in QUANTIZED:
        # Modules that fp16 needs in fp32 are sensitive to rounding: never quantized.
        sensitive = set(network._keep_in_fp32_modules)
        quantized = frozenset(
            name
            for name, module in network.named_modules()
            if is_quantizable(name, module, precision) and not _matches(name, sensitive)
        )
    fp32 = frozenset(name for name, _ in network.named_parameters() if _matches(name, patterns))
    return Plan(precision, device.type, dtype, quantized, fp32)


def dtype_of(network: Any, precision: str, device: torch.device) -> torch.dtype:
    """Return the type of activations, and of the weights that are not quantized."""
    return DTYPES.get(precision) or half_type(network, device)


def half_type(network: Any, device: torch.device) -> torch.dtype:
    """Return the type of the weights that int8 and int4 do not quantize.

    On a GPU fp16, but bf16 for T5, whose activations exceed fp16's range. On a CPU bf16: fp16 has
    no fast product there, and fp32 takes twice the memory for an error one tenth smaller (0.0061
    instead of 0.0066 of the demo model's logits).
    """
    if device.type == "cpu" or has_t5(network.config):
        return torch.bfloat16
    return torch.float16


def has_t5(config: Any) -> bool:
    """Return whether the language model is a T5."""
    return getattr(getattr(config, "text_config", None), "model_type", None) == "t5"


def fp32_patterns(network: Any, dtype: torch.dtype) -> set[str]:
    """Return patterns of the parameters that `from_pretrained(dtype=...)` leaves in fp32.

    transformers has two lists: one for only fp16, and a strict one for fp16 and bf16.
    """
    patterns: set[str] = set()
    if dtype == torch.float16:
        patterns |= set(network._keep_in_fp32_modules)
    if dtype in (torch.float16, torch.bfloat16):
        patterns |= set(network._keep_in_fp32_modules_strict)
    return patterns


def is_quantizable(name: str, module: Any, precision: str) -> bool:
    """Return whether a module is a matrix of a layer, outside the Q-Former, of a valid shape."""
    # transformers skips subclasses of Linear.
    if type(module) is not nn.Linear or not IN_LAYER.search(name) or "qformer" in name:
        return False
    if precision == "int8":
        return module.in_features % 4 == 0  # cuBLAS requires it
    return module.out_features % INT4_OUT == 0 and module.in_features % INT4_IN == 0


def missing_package(precision: str) -> str | None:
    """Return the name of a package that a precision needs and that is not installed."""
    packages = ("bitsandbytes", "accelerate") if precision in QUANTIZED else ()
    missing = (package for package in packages if importlib.util.find_spec(package) is None)
    return next(missing, None)


def check_available(precision: str, network: Any) -> None:
    """Check that a precision can be used. Raises LoadError if a package is missing."""
    if (package := missing_package(precision)) is not None:
        raise LoadError(
            f"Precision {precision} needs the package {package}; install the packages of"
            " requirements.txt, or use bf16."
        )
    if precision == "fp16" and has_t5(network.config):
        log.warning("T5 may overflow in fp16, even with its `wo` in fp32; use bf16")


def _matches(name: str, patterns: set[str]) -> bool:
    # transformers matches patterns anywhere in a name.
    return any(re.search(pattern, name) for pattern in patterns)


def _bitsandbytes(precision: str, dtype: torch.dtype, skipped: list[str]) -> Any:
    config_class: Any = BitsAndBytesConfig  # untyped
    logging.getLogger(CPU_KERNELS).setLevel(logging.ERROR)
    if precision == "int8":
        # This list replaces the default one, which skips the output embeddings.
        return config_class(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return config_class(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,
    )
