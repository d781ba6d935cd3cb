"""Near duplicates: images whose difference hashes (dHash) differ in few bits share a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from ...image_sources.extras import required
from .journal import Journal

#: Maximum differing bits of 64 for which four bands of 16 bits find every pair.
MAX_DISTANCE: Final = 3


class NearDuplicates:
    """An index of perceptual hashes in the journal."""

    def __init__(self, journal: Journal, distance: int = MAX_DISTANCE) -> None:
        self._journal = journal
        self._distance = distance

    def representative(self, content: str, image: bytes) -> str:
        """Return the content of an earlier image that looks the same, else of this one."""
        bands = difference_hash(image)
        if bands is None:
            return content
        with self._journal.lock:
            for known, known_bands in self._journal.near(bands):
                if distance(bands, known_bands) <= self._distance:
                    return known
            self._journal.store_hash(content, bands)
        return content


def difference_hash(image: bytes) -> tuple[int, int, int, int] | None:
    """Return dHash's 64 bits in four bands; None for bytes that Pillow does not decode.

    Each bit says whether a pixel of the image, reduced to 9 by 8 grey ones, is brighter than its
    right neighbour (Neal Krawetz, "Kind of Like That", 2013).
    """
    pillow = required("PIL.Image")
    try:
        with pillow.open(io.BytesIO(image)) as picture:
            picture.draft("L", (64, 64))
            grey = picture.convert("L").resize((9, 8), pillow.Resampling.BOX)
    except Exception:
        # The worker reports the error of an image that cannot be decoded.
        return None
    pixels = grey.tobytes()
    bits = [pixels[9 * y + x] > pixels[9 * y + x + 1] for y in range(8) for x in range(8)]
    a, b, c, d = (
        sum(bit << index for index, bit in enumerate(bits[start : start + 16]))
        for start in range(0, 64, 16)
    )
    return a, b, c, d


def distance(bands: Sequence[int], other_bands: Sequence[int]) -> int:
    """Return the number of differing bits of two hashes."""
    return sum((a ^ b).bit_count() for a, b in zip(bands, other_bands, strict=True))
