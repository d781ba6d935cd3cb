"""Downloads from ModelScope, by its own client, into a cache of the Hugging Face hub's layout.

A listing of ModelScope names no commit, so a snapshot is named by a hash of its files' names and
contents. The client checks each file against the listing, so that a snapshot never mixes two states
of a branch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.cache import find_config, repository, set_commit, write_listing
from worker.hub.disk import check_disk, disk_problem
from worker.hub.files import ADAPTER_CONFIG, missing_part, select_files
from worker.hub.progress import DownloadProgress
from worker.hub.reference import HubModel, Snapshot

#: Settings of the client, unless the environment has them: seconds without a byte after which a
#: request fails, and attempts. The supervisor repeats a download that fails.
CLIENT_SETTINGS: Final = {
    "MODELSCOPE_API_TIMEOUT": "10",
    "MODELSCOPE_API_MAX_RETRIES": "1",
    "MODELSCOPE_DOWNLOAD_TIMEOUT": "10",
    "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "2",
    "MODELSCOPE_REPO_TREE_PAGE_TIMEOUT_SECONDS": "10",
    "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
    "TQDM_DISABLE": "1",
}
TOKEN: Final = "MODELSCOPE_API_TOKEN"

#: The entry of a file in a listing: path, size and hash.
Entry = dict[str, Any]


def download(model: HubModel) -> Snapshot:
    """Download what is missing of a model's revision, as ModelScope has it now.

    Raises LoadError with a remedy; HubUnavailable if a later attempt may succeed.
    """
    with _errors(model):
        files = _list_files(model)
        names = select_files(files)
        if (part := missing_part(names)) is not None:
            raise LoadError(
                f"Model {model.title!r} is no checkpoint of transformers and no adapter of peft: it"
                f" has no {part}."
            )
        commit = content_hash({name: files[name] for name in names})
        directory = repository(model) / "snapshots" / commit
        missing = [files[name] for name in names if not (directory / name).is_file()]
        size = sum(entry["Size"] for entry in missing)
        check_disk(model, repository(model), size)
        write_listing(model, commit, names)
        with DownloadProgress(model, directory, size):
            _fetch(model, directory, missing)
        set_commit(model, commit)
    return model.at(directory)


def download_config(model: HubModel) -> Snapshot:
    """Download only the configuration. Raises LoadError as `download` does."""
    with _errors(model):
        files = _list_files(model)
        only_adapter = ADAPTER_CONFIG in files and "config.json" not in files
        name = ADAPTER_CONFIG if only_adapter else "config.json"
        if name not in files:
            raise LoadError(
                f"Model {model.title!r} has no config.json: it is no checkpoint of transformers."
            )
        names = select_files(files)
        commit = content_hash({each: files[each] for each in names})
        directory = repository(model) / "snapshots" / commit
        write_listing(model, commit, names)
        if not (directory / name).is_file():
            _fetch(model, directory, [files[name]])
        if find_config(model) is None:
            set_commit(model, commit)
    return model.at(directory)


def content_hash(files: Mapping[str, Entry]) -> str:
    """Return forty hex digits for the names and contents of a listing's files."""
    contents = {name: [entry["Size"], entry["Sha256"]] for name, entry in files.items()}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:40]


def _list_files(model: HubModel) -> dict[str, Entry]:
    """Return the files of a revision by their paths."""
    listed = _client(model).list_repo_files(model.name, "model", revision=model.revision)
    return {
        file.path: {"Path": file.path, "Size": file.size, "Sha256": file.sha256}
        for file in listed
        if not file.is_dir
    }


def _fetch(model: HubModel, directory: Path, files: list[Entry]) -> None:
    """Download files into a directory; each has its name once it is complete and checked."""
    if files:
        _client(model).download_repo(
            model.name, "model", revision=model.revision, local_dir=directory, file_list=files
        )


def _client(model: HubModel) -> Any:
    """Return a client whose locks are beside the snapshots."""
    os.environ |= {name: os.environ.get(name, value) for name, value in CLIENT_SETTINGS.items()}
    # The client reads its settings when it is imported.
    from modelscope_hub import HubApi
    from modelscope_hub.config import HubConfig

    # Its warnings repeat the error, or concern a retry that succeeds.
    logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
    return HubApi(HubConfig(cache_dir=repository(model)))


@contextmanager
def _errors(model: HubModel) -> Iterator[None]:
    """Turn errors of the client and of the cache into LoadErrors."""
    if find_spec("modelscope_hub") is None:
        raise LoadError(
            f"Model {model.title!r} needs the package modelscope-hub; install the packages of"
            " requirements.txt, or set the directory of a copy."
        )
    try:
        yield
    except LoadError:
        raise
    except Exception as error:
        raise _failure(model, error) from error


def _failure(model: HubModel, error: Exception) -> LoadError:
    """Return the sentence of an error; HubUnavailable if a later attempt may succeed."""
    from modelscope_hub import errors

    if isinstance(error, errors.FileDownloadError) and error.failed_files:
        # Of the failures of several files, the first; a complete file is not repeated.
        cause = next(iter(error.failed_files.values()))
        error = cause if isinstance(cause, Exception) else error
    problem = disk_problem(error, repository(model))
    if isinstance(error, errors.NotExistError):
        problem = _absence(model)
    if isinstance(error, (errors.AuthenticationError, errors.PermissionDeniedError)):
        status = error.status_code
        problem = f"is refused (HTTP {status}): set {TOKEN} to a valid token that may read it"
    if problem is not None:
        return LoadError(f"Model {model.title!r} {problem}.")
    is_later = isinstance(error, (errors.FileIntegrityError, OSError))
    if is_later or getattr(error, "retryable", False):
        return HubUnavailable(
            f"Model {model.title!r} cannot be downloaded from {_endpoint()} ({_reason(error)});"
            " check the network, MODELSCOPE_ENDPOINT and the proxy, or set a local directory."
        )
    return LoadError(f"Model {model.title!r} cannot be downloaded ({_reason(error)}).")


def _absence(model: HubModel) -> str:
    """Return the predicate of a model, or of a revision, that does not exist."""
    from modelscope_hub.errors import HubError, NotExistError

    try:
        _client(model).legacy.get_repo_info(model.name, "model")
    except NotExistError:
        return (
            f"does not exist at {_endpoint()}, or is private: check the name, and set {TOKEN} for a"
            " private model"
        )
    except HubError:
        # The first answer counts.
        return f"or its revision {model.revision!r} does not exist at {_endpoint()}"
    return (
        f"has no revision {model.revision!r}: correct BLIPLINE_MODEL_REVISION, or the text after"
        " `@`"
    )


def _endpoint() -> str:
    from modelscope_hub.config import HubConfig

    return str(HubConfig().endpoint)


def _reason(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    if status:
        return f"HTTP {status}"
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[0].rstrip(".")
