"""Packages of extras: one that is missing and one that is broken name the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from producer import InvalidInput
from producer.image_sources import extras
from producer.search.extras import required


def test_a_package_that_is_missing_or_broken_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise ImportError('undefined symbol: x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for load, extra in ((extras.required, "annotate"), (required, "search")):
        with pytest.raises(InvalidInput, match=rf"needs no_package: .*\.\[{extra}\]"):
            load("no_package")
        with pytest.raises(InvalidInput, match=rf"undefined symbol: x: .*\.\[{extra}\]"):
            load("broken_package")
    assert "broken_package" not in sys.modules
