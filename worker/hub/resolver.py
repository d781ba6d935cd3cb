"""Resolution of a model setting to directories of this machine: a checkpoint, and its adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable

from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.adapters import Find, NamedReferences, compose
from worker.hub.cache import find_config, find_snapshot
from worker.hub.reference import HubModel, Snapshot

log = logging.getLogger(__name__)


def resolve(
    model: str,
    revision: str = "",
    adapter: str = "",
    adapters: NamedReferences = (),
    *,
    offline: bool = False,
) -> Snapshot:
    """Return a directory, or a complete snapshot of a hub name, downloaded if the cache has none.

    A model that is an adapter of peft is that of its base; `adapter` is one for a base, and
    `adapters` are those that items choose by name.
    A complete snapshot in the cache takes no request, even if the hub has a newer commit.
    Raises LoadError; HubUnavailable if a later attempt may succeed.
    """
    return compose(model, revision, adapter, adapters, _finder(offline, find_snapshot, _download))


def resolve_config(
    model: str,
    revision: str = "",
    adapter: str = "",
    adapters: NamedReferences = (),
    *,
    offline: bool = False,
) -> Snapshot:
    """Return a directory that has at least the configuration of a model. Raises LoadError."""
    return compose(
        model, revision, adapter, adapters, _finder(offline, find_config, _download_config)
    )


def refresh(
    model: str,
    revision: str = "",
    adapter: str = "",
    adapters: NamedReferences = (),
    *,
    offline: bool = False,
) -> Snapshot:
    """Return the snapshot that the hub has now, or the cache's if the hub cannot be reached.

    Raises LoadError; HubUnavailable without a complete snapshot in the cache.
    """
    return compose(
        model, revision, adapter, adapters, lambda parsed: refresh_files(parsed, offline=offline)
    )


def refresh_files(parsed: Snapshot | HubModel, *, offline: bool = False) -> Snapshot:
    """Refresh the files of one reference, without those of the base of an adapter.

    Raises LoadError as `refresh` does.
    """
    if isinstance(parsed, Snapshot):
        return parsed
    cached = find_snapshot(parsed)
    if cached is None:
        check_online(parsed, offline)
    elif forbidden_by(offline):
        return cached
    try:
        return _download(parsed)
    except HubUnavailable as error:
        if cached is None:
            raise
        log.warning("%s The cache has commit %s.", error, cached.commit)
        return cached


def _finder(
    offline: bool,
    find: Callable[[HubModel], Snapshot | None],
    load: Callable[[HubModel], Snapshot],
) -> Find:
    """Return a function that returns the files of a reference, downloaded if there are none."""

    def resolved(parsed: Snapshot | HubModel) -> Snapshot:
        if isinstance(parsed, Snapshot):
            return parsed
        snapshot = find(parsed)
        if snapshot is not None:
            return snapshot
        check_online(parsed, offline)
        return load(parsed)

    return resolved


# The late imports take half a second, and only a download needs them.
def _download(model: HubModel) -> Snapshot:
    if model.is_modelscope:
        from worker.hub import modelscope

        return modelscope.download(model)
    from worker.hub.download import download

    return download(model)


def _download_config(model: HubModel) -> Snapshot:
    if model.is_modelscope:
        from worker.hub import modelscope

        return modelscope.download_config(model)
    from worker.hub.download import download_config

    return download_config(model)


def check_online(model: HubModel, offline: bool) -> None:
    """Raise LoadError if a setting forbids requests to the hub."""
    variable = forbidden_by(offline)
    if variable is not None:
        raise LoadError(
            f"Model {str(model)!r} is not complete in the hub's cache, and {variable} forbids its"
            f" download; run `python -m worker download {model}` where the hub can be reached."
        )


def forbidden_by(offline: bool) -> str | None:
    """Return the variable that forbids requests to the hub, or None."""
    from huggingface_hub import constants

    if offline:
        return "BLIPLINE_OFFLINE"
    return "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else None
