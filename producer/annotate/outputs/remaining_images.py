"""The images that an output contains: it is written anew from their sources."""

from __future__ import annotations

import os
from collections.abc import Container

from ..storage.journal import Journal
from .files import OutputFailed


def check_images_remain(journal: Journal, path: str, kinds: Container[str]) -> None:
    """Check that the images with locators of these kinds are there; raises OutputFailed."""
    for item in journal.written():
        locator = item.picture.locator
        if locator.kind in kinds and not os.path.exists(locator.address):
            raise OutputFailed(
                f"{path} stays as it is: its image {locator.address} is gone: restore it, or "
                "remove its sample with --prune"
            )
