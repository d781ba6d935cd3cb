"""The caches of the hubs on this machine, read without any request.

The layout is huggingface_hub's: `refs/REVISION` has a commit, `snapshots/COMMIT` its files, and
`trees/COMMIT.json` the listing of its repository. A file is complete as soon as it exists, since
downloads are renamed into place.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.hub.files import ADAPTER_CONFIG, missing_part, seems_complete, select_files
from worker.hub.reference import HubModel, Snapshot

_COMMIT: Final = re.compile("[0-9a-f]{40}")
#: The version of listings that this module reads.
_LISTING_VERSION: Final = 1


def find_snapshot(model: HubModel) -> Snapshot | None:
    """Return the complete snapshot of a model's revision, or None."""
    directory = find_directory(model)
    if directory is None or not directory.is_dir():
        return None
    listed = _read_listing(model, directory.name)
    if listed is None:
        return model.at(directory) if seems_complete(directory) else None
    required = select_files(listed)
    complete = missing_part(required) is None
    complete = complete and all((directory / name).is_file() for name in required)
    return model.at(directory) if complete else None


def find_config(model: HubModel) -> Snapshot | None:
    """Return the snapshot of a model's revision if it has at least the configuration."""
    directory = find_directory(model)
    names = ("config.json", ADAPTER_CONFIG)
    if directory is None or not any((directory / name).is_file() for name in names):
        return None
    return model.at(directory)


def find_directory(model: HubModel) -> Path | None:
    """Return the directory of a revision's snapshot, which may not exist; None if it is unknown."""
    folder = repository(model)
    try:
        commit = (folder / "refs" / model.revision).read_text().strip()
    except OSError:
        commit = model.revision
    return folder / "snapshots" / commit if _COMMIT.fullmatch(commit) else None


def repository(model: HubModel) -> Path:
    """Return the folder of a model in the cache."""
    # A late import: constants of the environment, needed for hub names only.
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    # Beside the hub's models, so that a volume of models keeps both.
    cache = hub.parent / "modelscope" if model.is_modelscope else hub
    return cache / f"models--{model.name.replace('/', '--')}"


def set_commit(model: HubModel, commit: str) -> None:
    """Record the commit of a branch or tag, once its snapshot is complete. Raises OSError."""
    if model.revision != commit:
        _write(repository(model) / "refs" / model.revision, commit)


def write_listing(model: HubModel, commit: str, names: Iterable[str]) -> None:
    """Record the names of a repository's files, as the hub's own client does. Raises OSError."""
    listing = {"format_version": _LISTING_VERSION, "files": list(names)}
    _write(repository(model) / "trees" / f"{commit}.json", json.dumps(listing))


def _write(path: Path, text: str) -> None:
    """Replace a file by another one as a whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


def _read_listing(model: HubModel, commit: str) -> list[str] | None:
    """Return the names of a repository's files; None without a listing that can be read."""
    try:
        listing = json.loads((repository(model) / "trees" / f"{commit}.json").read_text())
        known = listing["format_version"] == _LISTING_VERSION
        return list(listing["files"]) if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
