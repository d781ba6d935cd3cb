"""Model settings: a directory, or a name of the Hugging Face hub or of ModelScope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.engine.errors import LoadError

#: `name` or `owner/name`.
_HUB_NAME: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_REVISION: Final = re.compile(r"\w[\w./-]*", re.ASCII)
#: The revision of a hub name without one.
DEFAULT_REVISION: Final = "main"
#: The prefix of a name of ModelScope, and its default revision.
MODELSCOPE: Final = "modelscope:"
MODELSCOPE_REVISION: Final = "master"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint's files on this machine."""

    #: The hub name, or the directory as the setting has it; for messages.
    name: str
    directory: Path
    #: The hub's commit; empty for a directory of the user.
    commit: str = ""
    #: The adapter that is merged into the weights.
    adapter: Snapshot | None = None
    #: Adapters that items choose, by name.
    adapters: tuple[tuple[str, Snapshot], ...] = ()

    def __str__(self) -> str:
        text = self.name
        if self.commit:
            text += f", commit {self.commit} in {self.directory}"
        text = text if self.adapter is None else f"{text}, with adapter {self.adapter}"
        return "; ".join([text, *(f"adapter {name}: {each}" for name, each in self.adapters)])

    @property
    def title(self) -> str:
        """The name of the model that is served: that of the checkpoint and of its adapter."""
        return self.name if self.adapter is None else f"{self.name} with {self.adapter.name}"

    @property
    def commits(self) -> str:
        """The commits of the checkpoint and of its adapter; empty if neither is of the hub."""
        own = [self.commit, self.adapter.commit] if self.adapter else [self.commit]
        return "+".join(filter(None, own))


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of a hub: `name` or `owner/name`, and a branch, tag or commit."""

    name: str
    revision: str = DEFAULT_REVISION
    is_modelscope: bool = False

    def __str__(self) -> str:
        return f"{self.title}@{self.revision}"

    @property
    def title(self) -> str:
        """The name as the setting has it, with the prefix of its hub."""
        return f"{MODELSCOPE}{self.name}" if self.is_modelscope else self.name

    def at(self, directory: Path) -> Snapshot:
        """Return the snapshot in a directory of the hub's cache, which is named by its commit."""
        return Snapshot(self.title, directory, directory.name)


def parse_model(model: str, revision: str = "") -> Snapshot | HubModel:
    """Parse a setting: a directory is a snapshot, `name@revision` a model of the hub.

    Raises LoadError.
    """
    if model and Path(model).is_dir():
        if revision:
            raise LoadError(
                f"Model {model!r} is a directory, which has no revision; unset"
                " BLIPLINE_MODEL_REVISION, or set BLIPLINE_MODEL to a hub name."
            )
        return Snapshot(model, Path(model))
    if looks_like_path(model):
        raise LoadError(
            f"Model directory {model!r} does not exist; check the path "
            "(BLIPLINE_MODEL or BLIPLINE_MATCH_MODEL), or name a model of the hub, such as"
            " Salesforce/blip-image-captioning-base."
        )
    is_modelscope = model.startswith(MODELSCOPE)
    name, at, suffix = model.removeprefix(MODELSCOPE).partition("@")
    if revision and suffix and revision != suffix:
        raise LoadError(f"Model {model!r} has two revisions: BLIPLINE_MODEL_REVISION={revision}.")
    default = MODELSCOPE_REVISION if is_modelscope else DEFAULT_REVISION
    chosen = revision or (suffix if at else default)
    if is_modelscope and "/" not in name:
        raise LoadError(f"Model {model!r} is no name of ModelScope; write modelscope:owner/name.")
    if not _HUB_NAME.fullmatch(name) or not _REVISION.fullmatch(chosen) or ".." in chosen:
        raise LoadError(
            f"Model {model!r} is neither a directory nor a hub name; write owner/name or"
            " owner/name@revision, for ModelScope with the prefix modelscope:."
        )
    return HubModel(name, chosen, is_modelscope)


def looks_like_path(model: str) -> bool:
    """Return whether `model` is a path; a hub name is `name` or `owner/name`."""
    name = model.partition("@")[0]
    return model.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in model
