"""The revision of a loaded model: a hash of everything that determines its answers.

Files are hashed in threads while the weights are loaded, which reads the same bytes: 1.6 GiB/s for
each core, once. Later starts read only small files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from huggingface_hub import constants

from worker.engine.errors import LoadError
from worker.hub.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, select_adapter_files
from worker.hub.reference import Snapshot
from worker.models.file_hashes import FileHashes, Signature, sign
from worker.software import software

#: Suffixes of weights for other frameworks, and of documentation: never read.
UNREAD: Final = frozenset(
    [".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".tflite", ".mlmodel", ".md", ".png", ".jpg"]
)
#: Weights that transformers reads only without safetensors.
PICKLED: Final = "pytorch_model"
SAFETENSORS: Final = ("model.safetensors", "model.safetensors.index.json")
#: Files hashed at the same time; a disk is not faster with more readers.
THREADS: Final = 4


class CheckpointFiles:
    """The files of a checkpoint and its adapter, hashed in threads until a `with` block ends."""

    def __init__(self, snapshot: Snapshot, hashes: FileHashes | None = None) -> None:
        self.name, self.directory = snapshot.title, snapshot.directory
        self._adapter = snapshot.adapter
        # Beside the hub's models, so that a volume of models keeps both.
        self._hashes = hashes or _file_hashes()
        self._pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "checkpoint-hash")
        self._signatures: dict[Path, Signature] = {}
        self._contents: dict[Path, Future[str]] = {}

    def __enter__(self) -> Self:
        with self._readable():
            for path in self._files().values():
                self._signatures[path] = sign(path)
                self._contents[path] = self._pool.submit(self._hashes.hash, path)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def digest(self) -> str:
        """Return the hash of all names and contents, after loading.

        Raises LoadError if a file cannot be read or has changed since the start.
        """
        digest = hashlib.sha256()
        with self._readable():
            for name, path in self._files().items():
                content = self._contents.get(path) or self._pool.submit(self._hashes.hash, path)
                digest.update(f"{name}\0{content.result()}\n".encode())
            for path, signature in self._signatures.items():
                if sign(path) != signature:
                    raise LoadError(
                        f"File {path} of model {self.name!r} changed while the model was loaded;"
                        " start the worker again."
                    )
        self._hashes.save()
        return digest.hexdigest()

    def _files(self) -> dict[str, Path]:
        """Return the files of the checkpoint and of its adapter by their names."""
        files = {str(path.relative_to(self.directory)): path for path in list_files(self.directory)}
        if self._adapter is None:
            return files
        root = self._adapter.directory
        added = select_adapter_files(root)
        # No name of a file has a NUL.
        return files | {f"adapter\0{path.relative_to(root)}": path for path in added}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LoadError(
                f"File {error.filename} of model {self.name!r} cannot be read"
                f" ({error.strerror}); check that it exists and its permissions."
            ) from error


def revision(files: CheckpointFiles, network: Any, precision: str, *settings: str) -> str:
    """Return twelve hex digits for a loaded network and the settings of its prompts.

    Raises LoadError.
    """
    parts = [files.digest(), precision, network.device.type, attention(network), settings]
    return hashlib.sha256(json.dumps([*parts, software()]).encode()).hexdigest()[:12]


def adapter_revision(adapter: Snapshot, hashes: FileHashes | None = None) -> str:
    """Return twelve hex digits for the files of a named adapter. Raises LoadError."""
    hashes, digest = hashes or _file_hashes(), hashlib.sha256()
    weights = [name for name in ADAPTER_WEIGHTS if (adapter.directory / name).is_file()]
    try:
        for name in (ADAPTER_CONFIG, *weights[:1]):
            digest.update(f"{name}\0{hashes.hash(adapter.directory / name)}\n".encode())
    except OSError as error:
        raise LoadError(
            f"File {error.filename} of adapter {adapter.name!r} cannot be read ({error.strerror});"
            " check that it exists and its permissions."
        ) from error
    hashes.save()
    return digest.hexdigest()[:12]


def _file_hashes() -> FileHashes:
    return FileHashes(Path(constants.HF_HOME) / "blipline" / "file_hashes.json")


def attention(network: Any) -> list[str]:
    """Return the attention implementation of each kind of module."""
    configured = [module for module in network.modules() if hasattr(module, "config")]
    names = [getattr(module.config, "_attn_implementation", None) for module in configured]
    kinds = [type(module).__name__ for module in configured]
    return sorted({f"{kind}: {name}" for kind, name in zip(kinds, names, strict=True)})


def list_files(root: Path) -> list[Path]:
    """Return the files that transformers may read from a checkpoint, sorted by name."""
    has_safetensors = any((root / name).is_file() for name in SAFETENSORS)
    return sorted(
        path
        for path in walk(root, frozenset())
        if path.suffix not in UNREAD and not (has_safetensors and path.name.startswith(PICKLED))
    )


def walk(folder: Path, parents: frozenset[Path]) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden; links may form loops."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in parents:
            yield from walk(path, parents | {path.resolve()})
