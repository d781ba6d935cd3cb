"""A tiny checkpoint of each family and of each kind in groups, by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from config.settings import DEMO_MATCH_MODEL, DEMO_MODEL
from tests.models import image_text_checkpoints, retrieval_checkpoints
from tests.models.blip_checkpoints import save_caption, save_vqa
from tests.models.llama_checkpoints import save_instructblip_llama
from tests.models.t5_checkpoints import save_blip2, save_instructblip


def copy_of(source: Path) -> Callable[[Path], object]:
    return lambda path: shutil.copytree(source, path, dirs_exist_ok=True)


#: Families with a decoder or a comparison of their own.
FAMILIES: dict[str, Callable[[Path], object]] = {
    "opt": copy_of(DEMO_MODEL),
    "match": copy_of(DEMO_MATCH_MODEL),
    "blip-match": retrieval_checkpoints.save_blip,
    "blip2-match": retrieval_checkpoints.save_blip2,
    "caption": save_caption,
    "vqa": save_vqa,
    "t5": save_blip2,
    "instructblip": save_instructblip,
    "instructblip-llama": save_instructblip_llama,
}
CHECKPOINTS: dict[str, Callable[[Path], object]] = FAMILIES | image_text_checkpoints.CHECKPOINTS

#: Returns the directory of a checkpoint of CHECKPOINTS, which tests must not change.
SaveOnce = Callable[[str], Path]


@pytest.fixture(scope="session")
def save_once(tmp_path_factory: pytest.TempPathFactory) -> SaveOnce:
    """Save each checkpoint once for all tests of a run."""

    @cache
    def save(name: str) -> Path:
        path = tmp_path_factory.mktemp(name)
        CHECKPOINTS[name](path)
        return path

    return save
