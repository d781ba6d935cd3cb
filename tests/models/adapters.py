"""Random adapters of peft for tiny checkpoints, and their merge by peft. No code of the worker.

Functions import peft: that takes two seconds, which only lanes with tests of adapters need.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from peft import PeftConfig

#: The matrices of attention and MLP in the language models of the tiny checkpoints.
LANGUAGE = r"language_model\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2|q|k|v|o|wi_0|wi_1|wo)"


def peft_config(kind: str, **settings: Any) -> PeftConfig:
    """Return peft's configuration of this class."""
    import peft

    config: PeftConfig = getattr(peft, kind)(**settings)
    return config


def lora(**settings: Any) -> PeftConfig:
    """Configure a LoRA of rank 3 on the language model."""
    defaults = {"r": 3, "lora_alpha": 5, "target_modules": LANGUAGE}
    return peft_config("LoraConfig", **{**defaults, **settings})


@cache
def _load(network_class: Any, base: Path, **settings: Any) -> Any:
    return network_class.from_pretrained(base, **settings)


def save_adapter(
    network_class: Any,
    base: Path,
    path: Path,
    config: PeftConfig | None = None,
    seed: int = 7,
    scale: float = 0.3,
) -> Path:
    """Save an adapter whose every trained weight differs by about `scale` from its initial one."""
    from peft import get_peft_model

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        network = deepcopy(_load(network_class, base))
        # peft draws the initial weights.
        torch.manual_seed(seed)
        adapted = get_peft_model(network, config or lora())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight += scale * torch.randn(weight.shape, generator=generator)
        adapted.save_pretrained(str(path))
    return path


def merge(network_class: Any, base: Path, adapter: Path) -> Any:
    """Return the network that peft merges."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = deepcopy(_load(network_class, base, dtype=torch.float32))
        return PeftModel.from_pretrained(network, str(adapter)).merge_and_unload().eval()


def with_adapters(network: Any, adapters: Mapping[str, Path]) -> Any:
    """Return peft's model with adapters that are not merged; `set_adapter` chooses one of them."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (first, folder), *others = adapters.items()
        model = PeftModel.from_pretrained(network, str(folder), first)
        for name, folder in others:
            model.load_adapter(str(folder), name)
    return model.eval()
