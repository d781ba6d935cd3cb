"""A trial: decode files in a process of its own, and report as one line of JSON.

python -m tests.hostile.trial corpus PATH
python -m tests.hostile.trial files BACKEND PATH ...
python -m tests.hostile.trial together PATH THREADS

The first PATH is that of the pickled corpus.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tests.hostile.specimen import ANSWERED, Specimen
from worker.engine.frame import ImageBackend
from worker.errors import ItemRejected
from worker.images.decoder import Decoder, needed_bytes
from worker.images.inspection import inspect_image
from worker.images.pillow import open_image
from worker.images.resizing import load_torch

#: The default of the setting.
MAX_PIXELS: Final = 64_000_000
DECODER: Final = Decoder(224, Image.Resampling.BICUBIC, MAX_PIXELS)
#: Bytes of address space: a file that takes more fails without harm to the machine.
ADDRESS_SPACE: Final = 6 << 30


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(data: bytes) -> str:
    """Return the error code, or `answered`."""
    return outcome_and_pixels(data)[0]


def outcome_and_pixels(data: bytes) -> tuple[str, str]:
    """Return the error code or `answered`, and the digest of the pixels."""
    try:
        pixels = DECODER.decode(data)
    except ItemRejected as error:
        return str(error.code.value), ""
    assert len(pixels) == 224 * 224 * 3
    return ANSWERED, hashlib.sha256(pixels).hexdigest()


def try_corpus(path: str) -> dict[str, Any]:
    """Decode the corpus, one file after the other."""
    files: tuple[Specimen, ...] = pickle.loads(Path(path).read_bytes())
    before, handles = peak_bytes(), len(os.listdir("/proc/self/fd"))
    results = {file.name: outcome_and_pixels(file.data) for file in files}
    return {
        "outcomes": {name: code for name, (code, _) in results.items()},
        "pixels": {name: digest for name, (_, digest) in results.items()},
        "grown": peak_bytes() - before,
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")) - handles,
    }


def try_files(backend: ImageBackend, *paths: str) -> dict[str, Any]:
    """Decode each file in a fork of this process; report its estimated and its actual memory."""
    if backend == "torchvision":
        load_torch()
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        reports = pool.map(partial(_try_file, backend), paths, chunksize=1)
    return {Path(path).name: report for path, report in zip(paths, reports, strict=True)}


def _try_file(backend: ImageBackend, path: str) -> dict[str, Any]:
    data = Path(path).read_bytes()
    before = peak_bytes()
    replace(DECODER, backend=backend).decode(data)
    grown = peak_bytes() - before
    return {"grown": grown, "estimated": estimated_bytes(data, backend)}


def estimated_bytes(data: bytes, backend: ImageBackend = "pil") -> int:
    """Return the memory that the decoder reserves for a file."""
    header = inspect_image(data, MAX_PIXELS)
    with open_image(header.format, data) as image:
        return needed_bytes(image, header, backend)


def try_together(path: str, threads: str) -> dict[str, Any]:
    """Decode one file in many threads at the same time."""
    data = Path(path).read_bytes()
    before = peak_bytes()
    with ThreadPoolExecutor(int(threads)) as pool:
        outcomes = set(pool.map(outcome, [data] * int(threads)))
    return {"grown": peak_bytes() - before, "outcomes": sorted(outcomes)}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    kind, *arguments = sys.argv[1:]
    trials: dict[str, Callable[..., dict[str, Any]]] = {
        "corpus": try_corpus,
        "files": try_files,
        "together": try_together,
    }
    print(json.dumps(trials[kind](*arguments)))
