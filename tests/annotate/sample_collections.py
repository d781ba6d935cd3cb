"""Small collections of images, and the command over them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from producer.cli.app import run


def image_bytes(seed: int, width: int = 8, height: int = 8) -> bytes:
    """Return a PPM image whose content follows from the seed."""
    pixels = hashlib.shake_128(str(seed).encode()).digest(3 * width * height)
    return b"P6 %d %d 255\n" % (width, height) + pixels


def write_image(path: Path, seed: int, width: int = 8, height: int = 8) -> str:
    """Write an image; return the text that the responder gives it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(seed, width, height))
    return text_of(path)


def text_of(path: Path) -> str:
    """Return the text that the responder gives an image."""
    return f"picture {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


def annotate(*arguments: str | Path) -> int:
    """Run the command; return its exit code."""
    return run(["annotate", *map(str, arguments)])


def captions(folder: Path, suffix: str = ".txt") -> dict[str, str]:
    """Return the text of each caption file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob(f"*{suffix}"))
    }


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]
