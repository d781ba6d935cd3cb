"""Decodes files in a process of its own, and tells how that went: one line of JSON.

python -m tests.hostile.trial corpus
python -m tests.hostile.trial file PATH
python -m tests.hostile.trial together PATH THREADS
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tests.hostile.corpus import corpus
from tests.hostile.specimen import ANSWERED
from worker.errors import ItemRejected
from worker.images.decoder import Decoder, _needed_bytes
from worker.images.inspection import inspect_image
from worker.images.pillow import open_image

#: As by default.
MAX_PIXELS: Final = 64_000_000
DECODER: Final = Decoder(224, Image.Resampling.BICUBIC, MAX_PIXELS)
#: Bytes of address space: a file that gets hold of more fails, and takes no machine with it.
ADDRESSES: Final = 6 << 30


def peak_bytes() -> int:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(data: bytes) -> str:
    """Its code, or that it was answered."""
    try:
        pixels = DECODER.decode(data)
    except ItemRejected as refusal:
        return str(refusal.code.value)
    assert len(pixels) == 224 * 224 * 3
    return ANSWERED


def try_corpus() -> dict[str, Any]:
    """All of it, one after the other."""
    files = corpus()
    before, handles = peak_bytes(), len(os.listdir("/proc/self/fd"))
    return {
        "outcomes": {one.name: outcome(one.data) for one in files},
        "grown": peak_bytes() - before,
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")) - handles,
    }


def try_file(path: str) -> dict[str, Any]:
    """One: what it was reckoned to need, and took."""
    data = Path(path).read_bytes()
    before = peak_bytes()
    outcome(data)
    grown = peak_bytes() - before
    header = inspect_image(data, MAX_PIXELS)
    with open_image(header.format, data) as image:
        return {"grown": grown, "reckoned": _needed_bytes(image, header)}


def try_together(path: str, threads: str) -> dict[str, Any]:
    """One, by many threads at the same time."""
    data = Path(path).read_bytes()
    before = peak_bytes()
    with ThreadPoolExecutor(int(threads)) as pool:
        outcomes = set(pool.map(outcome, [data] * int(threads)))
    return {"grown": peak_bytes() - before, "outcomes": sorted(outcomes)}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    kind, *arguments = sys.argv[1:]
    trial = {"corpus": try_corpus, "file": try_file, "together": try_together}[kind]
    print(json.dumps(trial(*arguments)))
