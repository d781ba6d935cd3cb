"""Adapters of peft: the checkpoint that an adapter belongs to, and an adapter beside weights.

https://huggingface.co/docs/peft. An adapter is a directory with `adapter_config.json`, which names
its base, and a few small weights.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from worker.engine.errors import LoadError
from worker.hub.files import ADAPTER_CONFIG, has_weights
from worker.hub.reference import HubModel, Snapshot, looks_like_path, parse_model

Find = Callable[[Snapshot | HubModel], Snapshot]
#: Names of adapters, and the directory or hub name of each.
NamedReferences = Sequence[tuple[str, str]]

#: BLIPLINE_ADAPTER for none, although one lies beside the model's weights.
NO_ADAPTER: Final = "none"

log = logging.getLogger(__name__)


def compose(
    model: str, revision: str, adapter: str, adapters: NamedReferences, find: Find
) -> Snapshot:
    """Return the files of a model setting with its adapters; `find` returns those of a reference.

    `adapter` is merged; `adapters` are those that items choose by name. The order of the calls of
    `find` depends only on the arguments and on the files, so that two processes can agree on a list
    of directories. Raises LoadError.
    """
    snapshot = _merged(model, revision, adapter, find)
    named = []
    for name, reference in adapters:
        files = find(_parse_adapter(reference, f"BLIPLINE_ADAPTERS={name}="))
        _check_adapter(files, "BLIPLINE_ADAPTERS")
        named.append((name, files))
    return replace(snapshot, adapters=tuple(named))


def _merged(model: str, revision: str, adapter: str, find: Find) -> Snapshot:
    """Return the files of a model setting with the adapter that is merged into it."""
    snapshot = find(parse_model(model, revision))
    if is_adapter(snapshot.directory):
        if adapter:
            raise LoadError(
                f"BLIPLINE_MODEL={model} is an adapter itself, so BLIPLINE_ADAPTER={adapter} cannot"
                " be merged; set BLIPLINE_MODEL to the base of both, or unset BLIPLINE_ADAPTER."
            )
        base = find(parse_base(snapshot))
        if is_adapter(base.directory):
            raise LoadError(
                f"Adapter {snapshot.name!r} belongs to {base.name!r}, which is an adapter itself;"
                " merge that into its base, and set BLIPLINE_MODEL to the result."
            )
        return replace(base, adapter=snapshot)
    if adapter in ("", NO_ADAPTER):
        _check_beside(snapshot, adapter)
        return snapshot
    added = find(_parse_adapter(adapter, "BLIPLINE_ADAPTER="))
    _check_adapter(added)
    if added.directory != snapshot.directory:
        _check_beside(snapshot, adapter)
    return replace(snapshot, adapter=added)


def is_adapter(directory: Path) -> bool:
    """Return whether a directory is an adapter, and no checkpoint with one beside its weights."""
    if not (directory / ADAPTER_CONFIG).is_file():
        return False
    return not (directory / "config.json").is_file() or not has_weights(os.listdir(directory))


def parse_base(adapter: Snapshot) -> Snapshot | HubModel:
    """Return the reference of an adapter's base. Raises LoadError."""
    _check_adapter(adapter)
    config = _read_config(adapter)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    remedy = (
        "set BLIPLINE_MODEL to the model that it was trained on, and BLIPLINE_ADAPTER to"
        f" {adapter.name!r}"
    )
    if not isinstance(base, str) or not base:
        raise LoadError(f"Adapter {adapter.name!r} does not name its base; {remedy}.")
    if looks_like_path(base) and not Path(base).is_dir():
        raise LoadError(
            f"The base of adapter {adapter.name!r}, {base!r}, does not exist here; {remedy}."
        )
    if Path(base).is_dir() or not isinstance(revision, str):
        return parse_model(base)
    return parse_model(base, revision)


def _parse_adapter(adapter: str, setting: str) -> Snapshot | HubModel:
    if looks_like_path(adapter) and not Path(adapter).is_dir():
        raise LoadError(f"{setting}{adapter} does not exist; check the path.")
    return parse_model(adapter)


def _check_adapter(snapshot: Snapshot, setting: str = "BLIPLINE_ADAPTER") -> None:
    """Check that a directory has an adapter's configuration. Raises LoadError."""
    directory = snapshot.directory
    if not (directory / ADAPTER_CONFIG).is_file():
        inner = sorted(str(path.parent) for path in directory.glob(f"*/{ADAPTER_CONFIG}"))
        hint = f"; choose one of {', '.join(inner)}" if inner else f"; check {setting}"
        raise LoadError(
            f"{snapshot.name!r} is no adapter of peft: {directory} has no {ADAPTER_CONFIG}{hint}."
        )


def _read_config(adapter: Snapshot) -> dict[str, Any]:
    path = adapter.directory / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LoadError(
            f"{path} of adapter {adapter.name!r} cannot be read ({error}); save it again."
        ) from error
    if not isinstance(config, dict):
        raise LoadError(f"{path} of adapter {adapter.name!r} is no JSON object; save it again.")
    return config


def _check_beside(snapshot: Snapshot, adapter: str) -> None:
    """Check that an adapter beside a model's weights is not left out by accident."""
    if not (snapshot.directory / ADAPTER_CONFIG).is_file():
        return
    if not adapter:
        raise LoadError(
            f"Model {snapshot.name!r} has an adapter beside its weights ({ADAPTER_CONFIG}); set"
            f" BLIPLINE_ADAPTER={snapshot.name} to merge it or BLIPLINE_ADAPTER={NO_ADAPTER} to"
            " leave it out, or remove the file."
        )
    log.warning("the adapter beside the weights of %s is left out", snapshot.name)
