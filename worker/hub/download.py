"""Downloads from the hub into its cache, with a time limit for each request.

A revision's name is bound to its commit after the last file, so that a killed download leaves the
earlier snapshot in use.
"""

from __future__ import annotations

import glob
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    set_client_factory,
    snapshot_download,
)
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import disable_progress_bars

from worker.engine.errors import LoadError
from worker.hub.cache import find_config, repository, set_commit
from worker.hub.disk import check_disk
from worker.hub.failures import hub_failure
from worker.hub.files import ADAPTER_CONFIG, missing_part, select_files
from worker.hub.progress import DownloadProgress
from worker.hub.reference import HubModel, Snapshot

#: Seconds without a write after which a temporary file belongs to a killed download.
ABANDONED_S: Final = 1800.0
#: Seconds without a byte after which a request fails. huggingface_hub waits forever for listings.
REQUEST_TIMEOUT_S: Final = 10.0

log = logging.getLogger(__name__)


def download(model: HubModel) -> Snapshot:
    """Download what is missing of a model's revision, as the hub has it now.

    Raises LoadError with a remedy; HubUnavailable if a later attempt may succeed.
    """
    with _hub_errors(model):
        commit, sizes = _list_files(model)
        names = select_files(sizes)
        if (part := missing_part(names)) is not None:
            raise LoadError(
                f"Model {model.name!r} is no checkpoint of transformers and no adapter of peft: it"
                f" has no {part}."
            )
        directory = repository(model) / "snapshots" / commit
        missing = {name: sizes[name] for name in names if not (directory / name).is_file()}
        check_disk(model, Path(constants.HF_HUB_CACHE), sum(missing.values()))
        remove_abandoned(repository(model) / "blobs")
        with DownloadProgress(model, repository(model) / "blobs", sum(missing.values())):
            snapshot_download(
                model.name, revision=commit, allow_patterns=[glob.escape(name) for name in names]
            )
        set_commit(model, commit)
    return model.at(directory)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed downloads, which no later download uses. Raises OSError."""
    oldest = time.time() - ABANDONED_S
    for path in folder.glob("*.incomplete"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def download_config(model: HubModel) -> Snapshot:
    """Download only the configuration. Raises LoadError as `download` does."""
    with _hub_errors(model):
        commit, sizes = _list_files(model)
        only_adapter = ADAPTER_CONFIG in sizes and "config.json" not in sizes
        name = ADAPTER_CONFIG if only_adapter else "config.json"
        path = hf_hub_download(model.name, name, revision=commit)
        if find_config(model) is None:
            set_commit(model, commit)
    return model.at(Path(path).parent)


def _list_files(model: HubModel) -> tuple[str, dict[str, int]]:
    """Return the commit of a revision, and the size of each of its files in bytes."""
    info = HfApi().model_info(
        model.name, revision=model.revision, files_metadata=True, timeout=REQUEST_TIMEOUT_S
    )
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or ()}


@contextmanager
def _hub_errors(model: HubModel) -> Iterator[None]:
    """Turn errors of the hub and its cache into LoadErrors."""
    _limit_requests()
    disable_progress_bars()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # Its warnings repeat the error, or concern a retry that succeeds.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except LoadError:
        raise
    except Exception as error:
        raise hub_failure(model, error) from error


@cache
def _limit_requests() -> None:
    """Limit the time of every request of huggingface_hub, also of those that set no limit."""

    def limit(request: httpx2.Request) -> None:
        timeouts: dict[str, Any] = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(timeouts.get(kind) or REQUEST_TIMEOUT_S, REQUEST_TIMEOUT_S)
            for kind in ("connect", "read", "write", "pool")
        }

    def client() -> httpx2.Client:
        made = default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
        return made

    set_client_factory(client)
