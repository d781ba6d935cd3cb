"""The files of a checkpoint or an adapter that the worker reads, and whether all of them exist."""

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
#: Weights in the order of preference: stem and suffix.
_WEIGHTS: Final = (("model", ".safetensors"), ("pytorch_model", ".bin"))
#: Variants of weights (`model.fp16.safetensors`), read if there are no others; precise ones first.
_VARIANTS: Final = ("fp32", "bf16", "fp16")
_INDEX: Final = re.compile(r".*\.index(\.\w+)?\.json")
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
#: An adapter of peft: its configuration, and its weights in the order of preference.
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
#: Files that contain the vocabulary of a tokenizer; each group is sufficient.
VOCABULARIES: Final = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("tokenizer.model",),
)


def select_files(names: Iterable[str]) -> list[str]:
    """Return the files of a repository that the worker reads, with one form of its weights."""
    listed = set(names)
    texts = {
        name
        for name in map(PurePosixPath, listed)
        if name.suffix in _TEXTS
        and str(name.parent) in _FOLDERS
        and not _INDEX.fullmatch(name.name)
    }
    return sorted({*map(str, texts), *_select_weights(listed), *_select_adapter(listed)})


def select_adapter_files(directory: Path) -> list[Path]:
    """Return the files of an adapter's directory that the worker reads, sorted by name."""
    folders = [directory, directory / QFORMER_TOKENIZER]
    names = {
        str(path.relative_to(directory))
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_file()
    }
    return [directory / name for name in select_files(names - _select_weights(names))]


def missing_part(names: Iterable[str]) -> str | None:
    """Return the part that a repository lacks to be a checkpoint or an adapter, or None."""
    listed = set(names)
    if ADAPTER_CONFIG in listed and _select_adapter(listed):
        return None
    if "config.json" in listed:
        return None if _select_weights(listed) else "weights"
    return "weights" if ADAPTER_CONFIG in listed else "config.json"


def _select_adapter(names: set[str]) -> set[str]:
    if ADAPTER_CONFIG not in names:
        return set()
    return set([name for name in ADAPTER_WEIGHTS if name in names][:1])


def _select_weights(names: set[str]) -> set[str]:
    for variant in ("", *_VARIANTS):
        infix = f".{variant}" if variant else ""
        for stem, suffix in _WEIGHTS:
            if (single := f"{stem}{infix}{suffix}") in names:
                return {single}
            # Older versions of transformers wrote the variant behind the numbers.
            number = r"-\d+-of-\d+"
            kind = f"({re.escape(infix)}{number}|{number}{re.escape(infix)})"
            shard = re.compile(f"{stem}{kind}{re.escape(suffix)}")
            shards = {name for name in names if shard.fullmatch(name)}
            if shards:
                return {*shards, f"{stem}{suffix}.index{infix}.json"} & names
    return set()


def weights_variant(directory: Path) -> str | None:
    """Return the variant of a directory's weights; None for weights without one, or none."""
    selected = _select_weights({path.name for path in directory.iterdir()})
    variants = (name for name in _VARIANTS if any(f".{name}" in file for file in selected))
    return next(variants, None)


def has_weights(names: Iterable[str]) -> bool:
    """Return whether there are weights of a whole network in a form that the worker reads."""
    return bool(_select_weights(set(names)))


def seems_complete(directory: Path) -> bool:
    """Return whether a directory has a configuration, weights, a processor and a tokenizer.

    An adapter needs only the first two. The hub's listing, where the cache has it, is the exact
    test.
    """
    if (directory / ADAPTER_CONFIG).is_file() and not (directory / "config.json").is_file():
        return any((directory / name).is_file() for name in ADAPTER_WEIGHTS)
    try:
        config = json.loads((directory / "config.json").read_text())
        folders = [directory]
        if config.get("model_type") == "instructblip":
            folders.append(directory / QFORMER_TOKENIZER)
        return (
            any((directory / name).is_file() for name in _PROCESSORS)
            and all(map(has_tokenizer, folders))
            and _has_all_weights(directory)
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has the vocabulary and the configuration of a tokenizer."""
    has_vocabulary = any(all((folder / name).is_file() for name in group) for group in VOCABULARIES)
    return has_vocabulary and (folder / "tokenizer_config.json").is_file()


def _has_all_weights(directory: Path) -> bool:
    for variant in ("", *_VARIANTS):
        infix = f".{variant}" if variant else ""
        for stem, suffix in _WEIGHTS:
            if (directory / f"{stem}{infix}{suffix}").is_file():
                return True
            index = directory / f"{stem}{suffix}.index{infix}.json"
            if index.is_file():
                shards = set(json.loads(index.read_text())["weight_map"].values())
                return all((directory / shard).is_file() for shard in shards)
    return False
