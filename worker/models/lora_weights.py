"""The matrices of named adapters, read by peft; an adapter that is no plain LoRA is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn

from worker.engine.errors import LoadError
from worker.engine.protocol import AdapterInfo
from worker.engine.row_adapters import RowAdapters
from worker.hub.reference import Snapshot
from worker.models.adapter import check_files, check_keys, peft_errors, read_peft_config
from worker.models.lora import LoraLayers, LoraMatrices, add_adapters
from worker.models.memory_shapes import skeleton
from worker.models.revision import adapter_revision

#: Initial values that leave the weights of the base unchanged.
_PLAIN_STARTS: Final = (True, False, "gaussian", "eva", "orthogonal")
#: Settings of an adapter that changes more than products of plain linear layers, and its words.
_MORE: Final = {
    "modules_to_save": "replaces whole modules (modules_to_save)",
    "trainable_token_indices": "changes embeddings (trainable_token_indices)",
    "target_parameters": "changes parameters that are no linear layer (target_parameters)",
    "layer_replication": "repeats layers (layer_replication)",
    "lora_bias": "has biases of its own (lora_bias)",
    "use_dora": "is a DoRA (use_dora)",
}


class NamedAdapters:
    """The named adapters of a snapshot, before they are added to its network."""

    def __init__(self, snapshot: Snapshot, config: Any, network_class: Any) -> None:
        """Read all matrices. Raises LoadError for an adapter that rows cannot choose."""
        self._adapters = snapshot.adapters
        self._layers: list[LoraLayers] = []
        if snapshot.adapters:
            network = skeleton(config, network_class)
            self._layers = [read_lora(network, snapshot, each) for _, each in snapshot.adapters]

    @property
    def elements(self) -> int:
        """The number of weights."""
        matrices = [each for layers in self._layers for each in layers.values()]
        return sum(each.down.numel() + each.up.numel() for each in matrices)

    def add_to(
        self, network: Any, dtype: torch.dtype, image_modules: Sequence[str] = ()
    ) -> RowAdapters:
        """Add the adapters to a network whose `image_modules` compute the features of images."""
        infos = [
            AdapterInfo(name, adapter_revision(adapter), _touches(layers, image_modules))
            for (name, adapter), layers in zip(self._adapters, self._layers, strict=True)
        ]
        adapters = RowAdapters(infos, network.device)
        add_adapters(network, adapters, self._layers, dtype)
        return adapters


def read_lora(network: Any, base: Snapshot, adapter: Snapshot) -> LoraLayers:
    """Return the matrices of an adapter for a network on the meta device. Raises LoadError."""
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    snapshot = replace(base, adapter=adapter)
    check_files(snapshot)
    config = read_peft_config(snapshot)
    _check_plain(adapter, config)
    with peft_errors(snapshot):
        model, report = _inject(network, snapshot, config)
        check_keys(snapshot, "match nothing in it", report.unexpected_keys)
        check_keys(snapshot, "are missing in the adapter", report.missing_keys)
        tensors = load_peft_weights(str(adapter.directory), device="cpu")
        absent = get_peft_model_state_dict(model).keys() - tensors.keys()
        check_keys(snapshot, "have other names in the adapter", absent)
        layers = {
            name: _matrices(adapter, name, module, tensors) for name, module in _lora_modules(model)
        }
        model.unload()
    return layers


def count_elements(config: Any, base: Snapshot) -> int:
    """Return the weights of a snapshot's named adapters from their configurations alone."""
    total = 0
    for _, adapter in base.adapters:
        snapshot = replace(base, adapter=adapter)
        settings = read_peft_config(snapshot)
        _check_plain(adapter, settings)
        with peft_errors(snapshot):
            from peft import PeftModel

            model: Any = PeftModel(skeleton(config), settings, low_cpu_mem_usage=True)
        modules = [module for _, module in _lora_modules(model)]
        parts = [part for module in modules for part in (module.lora_A, module.lora_B)]
        total += sum(part["default"].weight.numel() for part in parts)
    return total


def _inject(network: Any, snapshot: Snapshot, config: Any) -> tuple[Any, Any]:
    """Return peft's model of a network, and its report on the names of the tensors."""
    from peft import PeftModel

    assert snapshot.adapter is not None
    model: Any = PeftModel(network, config, low_cpu_mem_usage=True)
    report = model.load_adapter(
        str(snapshot.adapter.directory),
        "default",
        torch_device="cpu",
        low_cpu_mem_usage=True,
        key_mapping=getattr(network, "_checkpoint_conversion_mapping", {}),
    )
    return model, report


def _lora_modules(model: Any) -> list[tuple[str, Any]]:
    from peft.tuners.lora.layer import LoraLayer

    modules = model.base_model.model.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, LoraLayer)]


def _matrices(adapter: Snapshot, name: str, module: Any, tensors: Any) -> LoraMatrices:
    """Return the matrices of one of peft's layers. Raises LoadError for another layer."""
    from peft.tuners.lora.layer import Linear

    is_plain = type(module) is Linear and type(module.base_layer) is nn.Linear
    if not is_plain or module.lora_variant:
        raise _refused(adapter, f"changes {name}, which is no plain linear layer")
    prefix = f"base_model.model.{name}"
    down, up = (tensors[f"{prefix}.lora_{part}.weight"].float() for part in "AB")
    up = up * module.scaling["default"]
    if not (down.isfinite().all() and up.isfinite().all()):
        raise LoadError(
            f"Adapter {adapter.name!r} has numbers that are not finite in {name}; train it again."
        )
    return LoraMatrices(down, up)


def _check_plain(adapter: Snapshot, config: Any) -> None:
    """Check that an adapter is a plain LoRA. Raises LoadError."""
    if config.peft_type.value != "LORA":
        raise _refused(adapter, f"is of peft's kind {config.peft_type.value}")
    for setting, words in _MORE.items():
        if getattr(config, setting, None):
            raise _refused(adapter, words)
    if config.bias != "none":
        raise _refused(adapter, f"changes biases (bias={config.bias})")
    if config.init_lora_weights not in _PLAIN_STARTS:
        start = config.init_lora_weights
        raise _refused(adapter, f"changes the weights of its base (init_lora_weights={start})")


def _refused(adapter: Snapshot, words: str) -> LoadError:
    return LoadError(
        f"Adapter {adapter.name!r} {words}, which cannot be computed for single rows; set"
        " BLIPLINE_ADAPTER to it instead, which merges it into the model."
    )


def _touches(layers: LoraLayers, modules: Sequence[str]) -> bool:
    return any(name.partition(".")[0] in modules for name in layers)
