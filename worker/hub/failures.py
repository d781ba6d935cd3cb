"""Failures of the hub as sentences with a remedy, permanent or not."""

from __future__ import annotations

from typing import Final

import httpx2
from huggingface_hub import constants, errors

from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.disk import disk_problem
from worker.hub.reference import HubModel

#: Statuses that a later request may not get again.
_TRANSIENT: Final = frozenset([408, 429, 500, 502, 503, 504])


def hub_failure(model: HubModel, error: Exception) -> LoadError:
    """Return the sentence of an error; HubUnavailable if a later attempt may succeed."""
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        # The library looked into the cache after a request had failed.
        error = error.__cause__
    name, problem = model.name, _permanent_problem(model, error)
    if problem is not None:
        return LoadError(f"Model {name!r} {problem}.")
    if isinstance(error, (httpx2.HTTPError, errors.FileMetadataError, OSError)):
        return HubUnavailable(
            f"Model {name!r} cannot be downloaded from {constants.ENDPOINT} ({_reason(error)});"
            " check the network, HF_ENDPOINT and the proxy, or set a local directory."
        )
    return LoadError(f"Model {name!r} cannot be downloaded ({_reason(error)}).")


def _permanent_problem(model: HubModel, error: Exception) -> str | None:
    """Return the predicate of a failure that time does not mend, or None."""
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{model.name}"
        return f"is gated: accept its terms at {page}, and set HF_TOKEN to a token of that account"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"does not exist at {constants.ENDPOINT}, or is private: check the name, and set"
            " HF_TOKEN for a private model"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"has no revision {model.revision!r}: correct BLIPLINE_MODEL_REVISION, or the text"
            " after `@`"
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, OSError):
        return "has no config.json: it is no checkpoint of transformers"
    if isinstance(error, errors.HfHubHTTPError):
        return _status_problem(error)
    return disk_problem(error, constants.HF_HUB_CACHE)


def _status_problem(error: errors.HfHubHTTPError) -> str | None:
    status = error.response.status_code
    if status in (401, 403):
        return f"is refused (HTTP {status}): set HF_TOKEN to a valid token that may read it"
    if status == 404:
        return "has no config.json: it is no checkpoint of transformers"
    if status in _TRANSIENT:
        return None
    return f"is refused by {constants.ENDPOINT} (HTTP {status})"


def _reason(error: Exception) -> str:
    if isinstance(error, errors.HfHubHTTPError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
