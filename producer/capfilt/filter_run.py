"""A run of CapFilt over a file: it writes pairs part by part, and resumes after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from ..client import Client
from ..errors import IdTaken, InvalidInput
from ..job import Result
from ..ledger.ids import new_id
from ..results.filter_result import ScoredText
from .pairs import ImageTextPair, Part, divide
from .statistics import FilterStatistics
from .stream import PART_PAIRS, PartStream, Terms
from .workspace import RunCheckpoint, Workspace

#: Receives the image of a failed pair, and its error.
OnFailure = Callable[[str, str], None]

#: Names of the output files.
ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"


class FilterRun:
    """A run: the pairs of a file, the terms, and the workspace of its output."""

    def __init__(
        self,
        client: Client,
        workspace: Workspace,
        terms: Terms,
        options: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        part_pairs: int = PART_PAIRS,
    ) -> None:
        self._workspace = workspace
        self._part_pairs = part_pairs
        saved = workspace.read()
        started = RunCheckpoint(new_id(), terms, dict(options), sizes=workspace.sizes)
        self._checkpoint = saved or started
        self._is_new = saved is None
        if not self._checkpoint.is_run_of(started):
            raise InvalidInput(
                "an interrupted run with other options wrote this output: "
                f"{self._checkpoint.description}. Repeat them to resume it, or delete "
                f"{workspace.directory} to start again"
            )
        self._on_failure: OnFailure = lambda image, error: None
        self._stream = PartStream(
            client,
            self._checkpoint.run_id,
            terms,
            options,
            timeout_s=timeout_s,
        )

    @property
    def resumed_pairs(self) -> int:
        """The number of pairs whose results an earlier process has written."""
        return self._checkpoint.statistics.pairs

    def run(
        self,
        pairs: Iterable[ImageTextPair],
        on_done: Callable[[int], None] = lambda pairs: None,
        on_failure: OnFailure = lambda image, error: None,
    ) -> FilterStatistics:
        """Filter all pairs.

        `on_done` is called with the number of pairs that are done, `on_failure` for each failed
        pair with its image and its error.
        """
        self._on_failure = on_failure
        self._workspace.open(self._checkpoint)
        try:
            if not self._checkpoint.complete:
                # The crash may have been between the checkpoint and the deletion.
                self._stream.forget(self._checkpoint.parts - 1)
                parts = self._new_parts(divide(pairs, self._part_pairs))
                for part, results in self._stream.results(parts):
                    self._add(part, results)
                    on_done(self._checkpoint.statistics.pairs)
            self._workspace.finish(self._checkpoint)
        except IdTaken:
            raise self._differs("following") from None
        except InvalidInput:
            if self._is_new and not self._stream.has_submitted:
                self._workspace.discard()
            raise
        finally:
            self._workspace.close()
        return self._checkpoint.statistics

    def _new_parts(self, parts: Iterator[Part]) -> Iterator[Part]:
        """Yield the parts after the checkpoint; raises InvalidInput if earlier ones differ."""
        checkpoint, digest = self._checkpoint, ""
        for part in parts:
            if part.number >= checkpoint.parts:
                yield part
            elif part.number == checkpoint.parts - 1:
                digest = part.digest
                self._check_digest(digest, checkpoint)
        if checkpoint.parts and not digest:
            self._check_digest(digest, checkpoint)

    def _check_digest(self, digest: str, checkpoint: RunCheckpoint) -> None:
        if digest != checkpoint.digest:
            raise self._differs(f"first {checkpoint.statistics.pairs:,}")

    def _differs(self, pairs: str) -> InvalidInput:
        return InvalidInput(
            f"the {pairs} pairs are not those of the interrupted run; restore them, or delete "
            f"{self._workspace.directory} to start again"
        )

    def _add(self, part: Part, results: list[Result]) -> None:
        """Write the texts of a part, and the checkpoint after it."""
        statistics = self._checkpoint.statistics
        lines: dict[str, list[dict[str, Any]]] = {ACCEPTED: [], REJECTED: []}
        for pair, result in zip(part.pairs, results, strict=True):
            statistics.pairs += 1
            if result.filter_result is None:
                statistics.failed += 1
                self._on_failure(pair.image, _error_of(result))
                folder = self._workspace.folder(REJECTED)
                lines[REJECTED] += _failed_lines(pair, result, folder)
                continue
            for name in (ACCEPTED, REJECTED):
                for text in getattr(result.filter_result, name):
                    threshold = self._checkpoint.terms.threshold_of(text.source)
                    statistics.add(pair, text, threshold, accepted=name == ACCEPTED)
                    lines[name].append(_line(pair, text, self._workspace.folder(name)))
        after = replace(self._checkpoint, parts=part.number + 1, digest=part.digest)
        self._checkpoint = self._workspace.append(lines, after)


def _error_of(result: Result) -> str:
    return "no result" if result.error is None else f"{result.error.message} ({result.error.code})"


def _line(pair: ImageTextPair, text: ScoredText, folder: str) -> dict[str, Any]:
    """Return the line of a text in a file of `folder`: the pair, its source and its scores."""
    line = {"image": pair.reference_from(folder), **asdict(text)}
    if pair.custom_id is not None:
        line["custom_id"] = pair.custom_id
    if pair.label is not None and text.source == "web":
        line["label"] = pair.label
    return line


def _failed_lines(pair: ImageTextPair, result: Result, folder: str) -> Iterator[dict[str, Any]]:
    """Yield a line for each text of a failed pair, or one without a text."""
    for text in pair.texts or ("",):
        line: dict[str, Any] = {"image": pair.reference_from(folder), "text": text, "source": "web"}
        if pair.custom_id is not None:
            line["custom_id"] = pair.custom_id
        yield line | result.output()
