"""A tokenizer without one of its files: one sentence, in every family and layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from tests.models.blip_checkpoints import save_caption
from tests.models.checkpoints import CHECKPOINTS, SaveOnce
from worker.engine.errors import LoadError
from worker.hub.resolver import resolve
from worker.models import checkpoint as checkpoints
from worker.models.registry import load
from worker.models.tokenizer import check_vocabulary_files

FOLDERS = ["", "qformer_tokenizer"]
VOCABULARIES = {"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"}


@pytest.fixture(params=CHECKPOINTS)
def path(request: pytest.FixtureRequest, save_once: SaveOnce, tmp_path: Path) -> Path:
    """A complete checkpoint."""
    return shutil.copytree(save_once(request.param), tmp_path / "checkpoint")


def as_older_layout(folder: Path) -> bool:
    """Replace tokenizer.json by the files of older versions of transformers, if there are any."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    vocabulary = tokenizer.get_vocab()
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if isinstance(tokenizer, BertTokenizer):
        words = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    elif "merges" in model and type(tokenizer) is not PreTrainedTokenizerFast:
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    else:
        return False
    (folder / "tokenizer.json").unlink()
    return True


def refusal(path: Path) -> str:
    with pytest.raises(LoadError) as raised:
        load(str(path), device="cpu")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def assert_each_file_is_needed(path: Path, folders: list[Path]) -> None:
    for folder in folders:
        files = [file for file in folder.iterdir() if file.name in VOCABULARIES]
        assert files
        for file in files:
            hidden = file.rename(path.parent / file.name)
            message = refusal(path)
            assert "is incomplete" in message
            assert str(folder) in message
            assert file.name in message
            hidden.rename(file)


def test_each_missing_file_of_a_tokenizer_is_named_in_one_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [path / folder for folder in FOLDERS if (path / folder).is_dir()]
    # Tokenizers are checked before the weights are read
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "skeleton", None)
        assert_each_file_is_needed(path, folders)
    older = [as_older_layout(folder) for folder in folders]
    if any(older):
        load(str(path), device="cpu")
        monkeypatch.setattr(checkpoints, "skeleton", None)
        assert_each_file_is_needed(path, folders)


def test_a_tokenizer_of_a_guessed_class_is_refused_unless_it_is_the_right_one(path: Path) -> None:
    for folder in [path / folder for folder in FOLDERS if (path / folder).is_dir()]:
        original: Any = AutoTokenizer.from_pretrained(folder)
        settings = (folder / "tokenizer_config.json").rename(path.parent / "settings")
        try:
            guessed: Any = AutoTokenizer.from_pretrained(folder)
        except Exception:
            guessed = None
        if type(guessed) is BertTokenizer:
            assert guessed("a red circle?").input_ids == original("a red circle?").input_ids
            load(str(path), device="cpu")
        else:
            assert f"{folder / 'tokenizer_config.json'} is missing" in refusal(path)
        settings.rename(folder / "tokenizer_config.json")


def test_no_tokenizer_file_at_all_is_one_sentence(path: Path) -> None:
    for name in [*VOCABULARIES, "tokenizer_config.json"]:
        (path / name).unlink(missing_ok=True)
    assert "has no vocabulary of its tokenizer (tokenizer.json, vocab.txt, vocab.json with" in (
        refusal(path)
    )


@pytest.mark.parametrize("text", ["", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"])
def test_an_empty_or_truncated_vocabulary_is_refused(text: str, tmp_path: Path) -> None:
    save_caption(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text(text)
    assert "has 5 tokens, and the model" in refusal(tmp_path)


def test_one_complete_vocabulary_is_enough(tmp_path: Path) -> None:
    snapshot = resolve(str(tmp_path))
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(LoadError, match=r"merges\.txt is missing"):
        check_vocabulary_files(snapshot, tmp_path)
    (tmp_path / "spiece.model").write_text("")
    check_vocabulary_files(snapshot, tmp_path)
