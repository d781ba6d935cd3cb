"""Loading of a checkpoint's tokenizers, with the check that they have their vocabulary.

transformers loads a tokenizer without its files as an empty one, whose texts are all equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer, BertTokenizer

from worker.engine.errors import LoadError
from worker.hub.files import VOCABULARIES, has_tokenizer
from worker.hub.reference import Snapshot
from worker.models.checkpoint import load_error

#: Smallest part of a model's token embeddings that its tokenizer has. Published models have a few
#: more embeddings than tokens, rounded up to a multiple of 64.
LEAST_PART: Final = 0.5


def read_tokenizer(snapshot: Snapshot, embeddings: int, folder: str = "") -> Any:
    """Load the tokenizer of a text model with `embeddings` tokens, from a folder of a checkpoint.

    An adapter may have its own. Raises LoadError, also if its vocabulary is missing.
    """
    directory = tokenizer_folder(snapshot, folder)
    check_vocabulary_files(snapshot, directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except Exception as error:
        raise load_error(snapshot, error) from error
    check_class(snapshot, directory, tokenizer)
    check_vocabulary(snapshot, directory, tokenizer, embeddings)
    return tokenizer


def check_class(snapshot: Snapshot, directory: Path, tokenizer: Any) -> None:
    """Check that a tokenizer's class is not a guess. Raises LoadError."""
    # BERT's has no options that a checkpoint needs.
    if not (directory / "tokenizer_config.json").is_file() and type(tokenizer) is not BertTokenizer:
        raise incomplete(snapshot, f"{directory / 'tokenizer_config.json'} is missing")


def check_vocabulary(snapshot: Snapshot, directory: Path, tokenizer: Any, embeddings: int) -> None:
    """Check that a tokenizer has the tokens of a model with `embeddings`. Raises LoadError."""
    if len(tokenizer) < LEAST_PART * embeddings:
        raise incomplete(
            snapshot,
            f"the tokenizer in {directory} has {len(tokenizer)} tokens, and the model {embeddings}",
        )


def tokenizer_folder(snapshot: Snapshot, folder: str) -> Path:
    """Return a folder of the adapter if that has a tokenizer, otherwise the checkpoint's."""
    if snapshot.adapter is not None and has_tokenizer(snapshot.adapter.directory / folder):
        return snapshot.adapter.directory / folder
    return snapshot.directory / folder


def check_vocabulary_files(snapshot: Snapshot, directory: Path) -> None:
    """Check that a folder has the vocabulary of a tokenizer. Raises LoadError."""
    existing = {name for group in VOCABULARIES for name in group if (directory / name).is_file()}
    if any(existing.issuperset(group) for group in VOCABULARIES):
        return
    for group in VOCABULARIES:
        missing = sorted(set(group) - existing)
        if existing & set(group):
            raise incomplete(snapshot, f"{directory / missing[0]} is missing")
    choices = ", ".join(" with ".join(group) for group in VOCABULARIES)
    raise incomplete(snapshot, f"{directory} has no vocabulary of its tokenizer ({choices})")


def incomplete(snapshot: Snapshot, problem: str) -> LoadError:
    """Return the error of a checkpoint that lacks a part."""
    return LoadError(f"Checkpoint {snapshot.name!r} is incomplete: {problem}; download it again.")
