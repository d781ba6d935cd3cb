"""The software that determines answers: versions of packages, and this program's own code."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

#: Packages that compute texts, scores or pixels. Another version may give other answers.
PACKAGES: Final = (
    "bitsandbytes",
    "numpy",
    "peft",
    "pillow",
    "pillow-heif",
    "sentencepiece",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
#: This program's code, from templates and limits to the decoder of images.
SOURCES: Final = Path(__file__).resolve().parent


@cache
def software() -> dict[str, str]:
    """Return the version of each package, and a hash of this program's code as its version.

    A checkout or an image of the project has no version number that changes with its code.
    """
    return {name: package_version(name) for name in PACKAGES} | {"blipline": hash_code(SOURCES)}


def package_version(name: str) -> str:
    """Return the version of an installed package, or an empty text."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def hash_code(package: Path) -> str:
    """Hash the names and contents of a package's Python files."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
