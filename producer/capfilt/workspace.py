"""The workspace of a run: its incomplete output and the checkpoint from which it resumes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from ..errors import InvalidInput
from .statistics import FilterStatistics
from .stream import Terms

_CHECKPOINT: Final = "checkpoint.json"


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """The state of a run after its last complete part."""

    run_id: str
    terms: Terms
    options: Mapping[str, Any]
    #: Parts whose results are written, and the hash of their pairs.
    parts: int = 0
    digest: str = ""
    #: Bytes of each output file after these parts.
    sizes: Mapping[str, int] = field(default_factory=dict)
    statistics: FilterStatistics = field(default_factory=FilterStatistics)
    #: True if all parts are written, and only the renaming of files may be missing.
    complete: bool = False

    @property
    def description(self) -> str:
        """The terms, options and outputs of the run."""
        terms = {name: value for name, value in asdict(self.terms).items() if value is not None}
        return f"{terms}, {dict(self.options)}, files {', '.join(self.sizes)}"

    def is_run_of(self, run: RunCheckpoint) -> bool:
        """Return whether a run with the terms, options and outputs of `run` may resume here."""
        same_files = self.sizes.keys() == run.sizes.keys()
        return (self.terms, self.options) == (run.terms, run.options) and same_files

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Read a checkpoint from JSON."""
        terms, statistics = Terms(**fields["terms"]), FilterStatistics.of(fields["statistics"])
        return cls(**{**fields, "terms": terms, "statistics": statistics})


class Workspace:
    """The directory of a run, beside its output, whose name it contains."""

    def __init__(self, outputs: Mapping[str, Path]) -> None:
        """`outputs` are the output files by their names in the workspace; "accepted" is one."""
        # If a path is a symbolic link, its target is replaced.
        self._outputs = {name: Path(os.path.realpath(path)) for name, path in outputs.items()}
        accepted = self._outputs["accepted"]
        self.directory = accepted.with_name(f".{accepted.name}.capfilt")
        self._files: dict[str, BinaryIO] = {}
        self._lock_file: BinaryIO | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each output at the start of a run."""
        return dict.fromkeys(self._outputs, 0)

    def folder(self, name: str) -> str:
        """Return the folder of an output; images in it are named relative to it."""
        return str(self._outputs.get(name, self._outputs["accepted"]).parent)

    def read(self) -> RunCheckpoint | None:
        """Return the checkpoint of an interrupted run, or None."""
        try:
            return RunCheckpoint.of(json.loads((self.directory / _CHECKPOINT).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self.directory}: the checkpoint cannot be read ({error}); delete this directory "
                "to start again"
            ) from None

    def check(self) -> None:
        """Check that each output can be replaced; raises InvalidInput."""
        for path in self._outputs.values():
            _check_target(path)

    def discard(self) -> None:
        """Delete the directory of a run that has submitted nothing."""
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def open(self, checkpoint: RunCheckpoint) -> None:
        """Open the output files after the parts of a checkpoint; raises InvalidInput."""
        try:
            self.check()
            self.directory.mkdir(exist_ok=True)
            self._lock()
            if not checkpoint.complete:
                for name in self._outputs:
                    self._files[name] = self._open_part(name, checkpoint.sizes.get(name, 0))
            self._write(checkpoint)
        except OSError as error:
            raise InvalidInput(f"{self.directory}: cannot be written: {error.strerror}") from None

    def append(
        self, lines: Mapping[str, Iterable[Any]], checkpoint: RunCheckpoint
    ) -> RunCheckpoint:
        """Write the lines of a part to each file, then the checkpoint; return it with the sizes."""
        try:
            for name, file in self._files.items():
                for line in lines[name]:
                    file.write(_json_line(line))
                file.flush()
                os.fsync(file.fileno())
            sizes = {name: file.tell() for name, file in self._files.items()}
            checkpoint = replace(checkpoint, sizes=sizes)
            self._write(checkpoint)
        except OSError as error:
            raise InvalidInput(
                f"{self.directory}: cannot be written: {error.strerror}. The same command resumes"
            ) from None
        return checkpoint

    def finish(self, checkpoint: RunCheckpoint) -> None:
        """Replace the output files by those of the workspace, and delete it."""
        self._write(replace(checkpoint, complete=True))
        for name, path in self._outputs.items():
            # After a crash, some may have been replaced.
            with suppress(FileNotFoundError):
                (self.directory / name).replace(path)
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Close the files; the workspace stays for a later run."""
        for file in self._files.values():
            file.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def _open_part(self, name: str, size: int) -> BinaryIO:
        file = (self.directory / name).open("ab")
        if file.tell() < size:
            file.close()
            raise InvalidInput(
                f"{self.directory / name}: shorter than at the last checkpoint; delete "
                f"{self.directory} to start again"
            )
        # A crash may have left lines of the part after the checkpoint.
        file.truncate(size)
        file.seek(size)
        return file

    def _write(self, checkpoint: RunCheckpoint) -> None:
        part = self.directory / f"{_CHECKPOINT}.part"
        with part.open("wb") as file:
            file.write(_json_line(asdict(checkpoint)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.directory / _CHECKPOINT)

    def _lock(self) -> None:
        """Exclude other runs with the same output, until the end of this process."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        file = (self.directory / "lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InvalidInput(
                f"{self._outputs['accepted']}: another process is writing it; wait for its end"
            ) from None
        self._lock_file = file


def _check_target(path: Path) -> None:
    if path.exists() and not path.is_file():
        # A rename would replace a device by a file.
        raise InvalidInput(f"{path}: not a regular file")
    if path.exists() and not os.access(path, os.W_OK):
        raise InvalidInput(f"{path}: cannot be written: Permission denied")
    if not path.parent.is_dir():
        raise InvalidInput(f"{path}: cannot be written: there is no folder {path.parent}")


def _json_line(value: Any) -> bytes:
    # UTF-8 cannot encode a lone surrogate; its JSON escape is equivalent.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
