"""What each precision keeps in which type.

`fp32`, `bf16` and `fp16` name the type of every weight, except that fp16 leaves in fp32 what
transformers names for a model (BLIP-2's Q-Former, T5's `wo`): their values pass fp16's largest.
`int8` and `int4` store the matrices of the vision encoder's and the language model's layers small;
embeddings, Q-Former, projections, heads, norms and biases stay in a half type.
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

#: A layer of a stack has a number in its name; embeddings, projections and heads have none.
IN_LAYER: Final = re.compile(r"\.\d+\.")
#: bitsandbytes' kernel for a CPU with bf16 instructions takes blocks of these sizes only.
INT4_OUT, INT4_IN = 32, 64
#: bitsandbytes warns here, when it is imported, of an optional package that is not needed.
CPU_KERNELS: Final = "bitsandbytes.backends.cpu.ops"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How one network is stored in one precision on one kind of device."""

    precision: str
    #: Kind of device: cpu or cuda.
    device: str
    #: Type of what the two sets below do not name, of activations, keys and values.
    dtype: torch.dtype
    #: Linear modules whose weight is quantized.
    quantized: frozenset[str]
    #: Parameters that stay in fp32 although `dtype` is a half type.
    full: frozenset[str]

    def arguments(self, network: Any) -> dict[str, Any]:
        """What `from_pretrained` is told; `network` is the one the plan was made of."""
        if self.precision not in QUANTIZED:
            return {"dtype": self.dtype}
        linears = {name for name, one in network.named_modules() if isinstance(one, nn.Linear)}
        return {
            "dtype": self.dtype,
            "quantization_config": _bitsandbytes(
                self.precision, self.dtype, sorted(linears - self.quantized)
            ),
        }


def make_plan(network: Any, precision: str, device: torch.device) -> Plan:
    """The plan of a network, which may lie on the meta device."""
    dtype = DTYPES.get(precision) or half_type(network, device)
    patterns = kept_in_fp32(network, dtype)
    quantized = frozenset[str]()
    if precision in QUANTIZED:
        # Also those that only fp16 needs in fp32: they are known to bear no rounding.
        spared = set(network._keep_in_fp32_modules)
        quantized = frozenset(
            name
            for name, one in network.named_modules()
            if is_quantizable(name, one, precision) and not _matches(name, spared)
        )
    full = frozenset(name for name, _ in network.named_parameters() if _matches(name, patterns))
    return Plan(precision, device.type, dtype, quantized, full)


def half_type(network: Any, device: torch.device) -> torch.dtype:
    """What goes with int8 and int4.

    On a GPU fp16, but bf16 for T5, whose activations pass fp16's largest value. On a CPU bf16: fp16
    has no fast product there, and fp32 takes twice the memory for an error one tenth smaller
    (0.0061 instead of 0.0066 of the demo model's logits).
    """
    if device.type == "cpu" or has_t5(network.config):
        return torch.bfloat16
    return torch.float16


def has_t5(config: Any) -> bool:
    """Whether the language model is a T5."""
    return getattr(getattr(config, "text_config", None), "model_type", None) == "t5"


def kept_in_fp32(network: Any, dtype: torch.dtype) -> set[str]:
    """Parts of names of parameters that `from_pretrained(dtype=...)` leaves in fp32.

    transformers names two lists: one for fp16 alone, a strict one for both half types.
    """
    kept: set[str] = set()
    if dtype == torch.float16:
        kept |= set(network._keep_in_fp32_modules)
    if dtype in (torch.float16, torch.bfloat16):
        kept |= set(network._keep_in_fp32_modules_strict)
    return kept


def is_quantizable(name: str, module: Any, precision: str) -> bool:
    """Whether this is a large matrix of a layer, outside the Q-Former, of a shape that works."""
    # A subclass of Linear would be skipped by transformers.
    if type(module) is not nn.Linear or not IN_LAYER.search(name) or "qformer" in name:
        return False
    if precision == "int8":
        return module.in_features % 4 == 0  # what cuBLAS asks for
    return module.out_features % INT4_OUT == 0 and module.in_features % INT4_IN == 0


def check_available(precision: str, network: Any) -> None:
    """Raises LoadError where a package is missing; warns where a precision is known to be risky."""
    for package in ("bitsandbytes", "accelerate") if precision in QUANTIZED else ():
        if importlib.util.find_spec(package) is None:
            raise LoadError(
                f"Precision {precision} needs the package {package}; install what requirements.txt"
                " names, or use bf16."
            )
    if precision == "fp16" and has_t5(network.config):
        log.warning("T5 may overflow in fp16, even with its `wo` in fp32: bf16 is the safe choice")


def _matches(name: str, patterns: set[str]) -> bool:
    # Anywhere in a name, as transformers matches them.
    return any(re.search(pattern, name) for pattern in patterns)


def _bitsandbytes(precision: str, dtype: torch.dtype, skipped: list[str]) -> Any:
    make: Any = BitsAndBytesConfig  # untyped
    logging.getLogger(CPU_KERNELS).setLevel(logging.ERROR)
    if precision == "int8":
        # What is given replaces the default, which spares the output embeddings.
        return make(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,
    )
