"""The files of a checkpoint that the worker reads, and the check that all of them exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

#: Suffixes of configurations, vocabularies and templates.
_TEXTS: Final = frozenset([".json", ".txt", ".model", ".jinja"])
#: Folders of a repository that the worker reads: the repository itself, and InstructBLIP's second
#: tokenizer.
QFORMER_TOKENIZER: Final = "qformer_tokenizer"
_FOLDERS: Final = frozenset([".", QFORMER_TOKENIZER])
#: Weights in the order of preference: stem and suffix. A variant (`model.fp16.safetensors`) has
#: another stem.
_WEIGHTS: Final = (("model", ".safetensors"), ("pytorch_model", ".bin"))
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
#: Files that contain the vocabulary of a tokenizer; each group is sufficient.
VOCABULARIES: Final = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
)


def select_files(names: Iterable[str]) -> list[str]:
    """Return the files of a repository that the worker reads, with one form of its weights."""
    listed = set(names)
    texts = {
        name
        for name in map(PurePosixPath, listed)
        if name.suffix in _TEXTS
        and str(name.parent) in _FOLDERS
        and not name.name.endswith(".index.json")
    }
    return sorted({*map(str, texts), *_select_weights(listed)})


def _select_weights(names: set[str]) -> set[str]:
    for stem, suffix in _WEIGHTS:
        if f"{stem}{suffix}" in names:
            return {f"{stem}{suffix}"}
        shard = re.compile(rf"{stem}-\d+-of-\d+{re.escape(suffix)}")
        shards = {name for name in names if shard.fullmatch(name)}
        if shards:
            return {*shards, f"{stem}{suffix}.index.json"} & names
    return set()


def has_weights(names: Iterable[str]) -> bool:
    """Return whether a repository has weights in a form that the worker reads."""
    return bool(_select_weights(set(names)))


def seems_complete(directory: Path) -> bool:
    """Return whether a directory has a configuration, weights, a processor and a tokenizer.

    The hub's listing, where the cache has it, is the exact test.
    """
    try:
        config = json.loads((directory / "config.json").read_text())
        folders = [directory]
        if config.get("model_type") == "instructblip":
            folders.append(directory / QFORMER_TOKENIZER)
        return (
            any((directory / name).is_file() for name in _PROCESSORS)
            and all(map(_has_tokenizer, folders))
            and _has_all_weights(directory)
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def _has_tokenizer(folder: Path) -> bool:
    has_vocabulary = any(all((folder / name).is_file() for name in group) for group in VOCABULARIES)
    return has_vocabulary and (folder / "tokenizer_config.json").is_file()


def _has_all_weights(directory: Path) -> bool:
    for stem, suffix in _WEIGHTS:
        if (directory / f"{stem}{suffix}").is_file():
            return True
        index = directory / f"{stem}{suffix}.index.json"
        if index.is_file():
            shards = set(json.loads(index.read_text())["weight_map"].values())
            return all((directory / shard).is_file() for shard in shards)
    return False
