"""`python -m worker info` on broken directories: it refuses those that `load` refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.checkpoints import SaveOnce
from worker import info
from worker.engine.errors import LoadError
from worker.hub.files import VOCABULARIES
from worker.hub.resolver import resolve
from worker.info import CARD_NOTE, describe
from worker.models.registry import load

KINDS = ["instructblip", "opt", "vqa", "llava", "blip2-match"]
#: Settings of a configuration that determine a tensor's shape.
SIZES = ("vocab_size", "hidden_size", "d_model", "intermediate_size", "num_attention_heads")
Weights = dict[str, torch.Tensor]


def change_weights(path: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def lose_vocabulary(path: Path, generator: Random) -> None:
    names = {name for group in VOCABULARIES for name in group}
    generator.choice([file for file in sorted(path.rglob("*")) if file.name in names]).unlink()


def lose_tokenizer_settings(path: Path, generator: Random) -> None:
    generator.choice(sorted(path.rglob("tokenizer_config.json"))).unlink()


def lose_tensor(path: Path, generator: Random) -> None:
    change_weights(path, lambda weights: weights.pop(generator.choice(sorted(weights))))


def reshape_tensor(path: Path, generator: Random) -> None:
    def reshape(weights: Weights) -> None:
        name = generator.choice([name for name in sorted(weights) if weights[name].dim() > 1])
        weights[name] = weights[name][1:].clone()

    change_weights(path, reshape)


def contradict(path: Path, generator: Random) -> None:
    config = json.loads((path / "config.json").read_text())
    parts = [part for part in config.values() if isinstance(part, dict)] or [config]
    part, name = generator.choice(
        [(part, name) for part in parts for name in SIZES if name in part]
    )
    part[name] += generator.choice([1, 3])
    (path / "config.json").write_text(json.dumps(config))


BREAKS = [lose_vocabulary, lose_tokenizer_settings, lose_tensor, reshape_tensor, contradict]
#: Two kinds for each break.
CASES = [
    (KINDS[(number + shift) % len(KINDS)], damage)
    for number, damage in enumerate(BREAKS)
    for shift in (0, 2)
]


def refusal(use: Callable[..., object], *arguments: object) -> str | None:
    try:
        use(*arguments)
    except LoadError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_info_refuses_what_the_worker_refuses(
    kind: str, damage: Callable[[Path, Random], None], save_once: SaveOnce, tmp_path: Path
) -> None:
    path = shutil.copytree(save_once(kind), tmp_path / kind)
    damage(path, Random(f"{kind} {damage.__name__}"))
    snapshot = resolve(str(path))
    expected = refusal(load, snapshot, "fp32", "cpu")
    assert expected is not None
    assert refusal(describe, snapshot, "cpu", 10**12) == expected


def test_info_accepts_a_complete_directory(save_once: SaveOnce) -> None:
    for kind in ("instructblip", "llava"):
        assert describe(resolve(str(save_once(kind))), "cpu", 10**12)["parameters"] > 0


def test_a_broken_directory_is_one_sentence_and_code_2(
    save_once: SaveOnce, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(save_once("vqa"), tmp_path / "vqa")
    lose_tensor(path, Random(1))
    assert info.main([str(path), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "is incomplete: 1 tensors are missing" in captured.err
    assert (captured.out, captured.err.splitlines()[1:]) == ("", [])


def test_the_note_of_the_card_is_one_line_that_names_the_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert info.main(["--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == CARD_NOTE
    for part in ("accelerate estimate-memory", "1,024 MB", "tied head twice", "no rows"):
        assert part in CARD_NOTE
