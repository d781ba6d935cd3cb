"""Adapters of peft (LoRA, DoRA, IA3 and others), merged into the weights of a network.

Hu et al. 2021, https://arxiv.org/abs/2106.09685; https://huggingface.co/docs/peft. A merged adapter
costs no time and no memory per row, and is quantized with the weights.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from worker.engine.errors import LoadError
from worker.hub.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from worker.hub.reference import Snapshot

log = logging.getLogger(__name__)


def check_mergeable(snapshot: Snapshot) -> None:
    """Check, before the base is loaded, that its adapter can be merged. Raises LoadError."""
    adapter = snapshot.adapter
    if adapter is None:
        return
    check_files(snapshot)
    config = read_peft_config(snapshot)
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise unmergeable(adapter, config)
    if getattr(config, "layer_replication", None):
        raise LoadError(
            f"Adapter {adapter.name!r} repeats layers (layer_replication), which a worker does not"
            " build; train it without."
        )


def check_files(snapshot: Snapshot) -> None:
    """Check that peft and the weights of a snapshot's adapter are there. Raises LoadError."""
    adapter = snapshot.adapter
    assert adapter is not None
    if importlib.util.find_spec("peft") is None:
        raise LoadError(
            f"Adapter {adapter.name!r} needs the package peft; install the packages of"
            " requirements.txt, or merge it with peft, and set BLIPLINE_MODEL to the result."
        )
    if not any((adapter.directory / name).is_file() for name in ADAPTER_WEIGHTS):
        raise LoadError(
            f"Adapter {adapter.name!r} has no weights: {adapter.directory} has neither"
            f" {' nor '.join(ADAPTER_WEIGHTS)}; save it again with save_pretrained."
        )


@contextmanager
def hidden_adapter(directory: Path) -> Iterator[Path]:
    """Provide a checkpoint without the adapter beside it, which transformers would load as well."""
    if not (directory / ADAPTER_CONFIG).is_file():
        yield directory
        return
    with TemporaryDirectory(prefix="blipline-") as folder:
        for path in directory.iterdir():
            if path.name != ADAPTER_CONFIG:
                (Path(folder) / path.name).symlink_to(path.resolve())
        yield Path(folder)


def unmergeable(adapter: Snapshot, config: Any) -> LoadError:
    """Return the error of an adapter that works beside the weights of its base."""
    return LoadError(
        f"Adapter {adapter.name!r} is of peft's kind {config.peft_type.value}, which cannot be"
        " merged into the weights of its base; train a LoRA, or another kind that peft merges."
    )


def merge_adapter(network: Any, snapshot: Snapshot) -> Any:
    """Return a network in full precision with the adapter of `snapshot` merged into its weights.

    The result is that of `PeftModel.from_pretrained(...).merge_and_unload()`. Raises LoadError.
    """
    from peft import PeftModel

    assert snapshot.adapter is not None
    with peft_errors(snapshot):
        config = read_peft_config(snapshot)
        names = set(network.state_dict())
        model: Any = PeftModel(network, config)
        loaded = model.load_adapter(
            str(snapshot.adapter.directory),
            "default",
            torch_device="cpu",
            key_mapping=getattr(network, "_checkpoint_conversion_mapping", {}),
        )
        check_keys(snapshot, "match nothing in it", loaded.unexpected_keys)
        check_keys(snapshot, "are missing in the adapter", loaded.missing_keys)
        try:
            # Also checks that the results are finite.
            merged = model.merge_and_unload(safe_merge=True)
        except (AttributeError, NotImplementedError) as error:
            raise unmergeable(snapshot.adapter, config) from error
    check_keys(snapshot, "would be added by it or lost", names ^ set(merged.state_dict()))
    return merged


def read_peft_config(snapshot: Snapshot) -> Any:
    """Return peft's configuration of a snapshot's adapter. Raises LoadError."""
    from peft import PeftConfig

    assert snapshot.adapter is not None
    with peft_errors(snapshot):
        config = PeftConfig.from_pretrained(str(snapshot.adapter.directory))
    # The task only adds a method for its own kind of training.
    config.task_type = None
    return config


def check_keys(snapshot: Snapshot, problem: str, keys: Any) -> None:
    """Check that there are no tensors with a problem. Raises LoadError."""
    if keys:
        assert snapshot.adapter is not None
        raise LoadError(
            f"Adapter {snapshot.adapter.name!r} does not fit {snapshot.name!r}: {len(keys)} tensors"
            f" {problem} ({sorted(keys)[0]}, ...); set BLIPLINE_MODEL to the model that it was"
            " trained on."
        )


@contextmanager
def peft_errors(snapshot: Snapshot) -> Iterator[None]:
    """Turn errors of peft into LoadErrors, and its warnings into lines of the log."""
    assert snapshot.adapter is not None
    name = snapshot.adapter.name
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            # Others concern the versions of libraries.
            if issubclass(warning.category, UserWarning):
                log.warning("adapter %s: %s", name, str(warning.message).splitlines()[0])
    except LoadError:
        raise
    except Exception as error:
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # torch lists tensors of other shapes below a heading.
        problem = " ".join(line.strip() for line in lines[:2]).rstrip(".")
        raise LoadError(
            f"Adapter {name!r} does not fit {snapshot.name!r} ({problem}); set BLIPLINE_MODEL to"
            " the model that it was trained on."
        ) from error
