"""`blipline capfilt`: a filter of image-text pairs that adds synthetic captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from ..capfilt.calibration import Calibration, calibrate
from ..capfilt.filter_run import FilterRun
from ..capfilt.pairs import ImageTextPair, divide, read_pairs
from ..capfilt.report import check_report_directory, write_report
from ..capfilt.statistics import FilterStatistics
from ..capfilt.stream import PART_PAIRS, PartStream, Terms
from ..capfilt.workspace import Workspace
from ..client import Client
from ..contract import Task
from ..errors import InvalidInput
from ..image_sources import arguments
from ..image_sources.distinct_files import check_distinct
from ..image_sources.options import LineFormat, SourceOptions
from ..ledger.ids import new_id
from ..quantity import quantity
from ..validation import check_adapter
from . import capfilt_options, options
from .exit_codes import Exit, warn
from .failures import FailureLines, warn_if_empty
from .option_checks import SINGLE_TEXT_OPTIONS
from .option_groups import GroupedCommand
from .output import print_json, print_line
from .progress import progress_bar

#: Names of files in formats that the command does not write.
OTHER_FORMATS: Final = (".csv", ".tsv", ".parquet", ".pq", ".tar")
_TIMEOUT_HELP: Final = "Seconds to wait for the next result; without it, no limit."


@dataclass(frozen=True, slots=True)
class PairSources:
    """The sources of pairs, and how to read them."""

    sources: Sequence[str]
    options: SourceOptions
    label_column: str

    def pairs(self) -> Iterator[ImageTextPair]:
        """Yield the pairs of all sources."""
        return read_pairs(self.sources, self.options, self.label_column)

    def check_first(self, *, needs_labels: bool) -> None:
        """Read the first pairs unless they are on stdin; raises InvalidInput without a column."""
        if "-" in self.sources:
            return
        next(self.pairs(), None)
        pictures = arguments.first_pictures(self.sources, self.options)
        known = {column for picture in pictures for column in picture.columns}
        if needs_labels and pictures and self.label_column not in known:
            raise InvalidInput(
                f"{self.sources[0]}: no column {self.label_column}: name that of the labels with "
                f"--label-column; {arguments.columns_text(known)}"
            )


@click.command(cls=GroupedCommand)
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("-o", "--output", metavar="OUT", help="File of the accepted pairs, as JSON lines.")
@click.option("--rejected", metavar="FILE", help="Also write the rejected and the failed pairs.")
@capfilt_options.source_options
@capfilt_options.filter_options
@options.adapter
@click.option("--report", metavar="DIR", help="Write a report: figures, histogram, closest calls.")
@options.timeout(None, _TIMEOUT_HELP)
@options.as_json("Print the figures as a JSON object.")
@options.redis_url
@options.decoding_without(*SINGLE_TEXT_OPTIONS)
def capfilt(
    sources: Sequence[str],
    output: str | None,
    rejected: str | None,
    line_format: LineFormat | None,
    image_column: str | None,
    text_column: str | None,
    label_column: str,
    null_separated: bool,
    captions: int,
    threshold: float,
    synthetic_threshold: float | None,
    adapter: str | None,
    labelled: str | None,
    precision: float,
    report: str | None,
    timeout_s: float | None,
    as_json: bool,
    redis_url: str | None,
    **generation: Any,
) -> Exit:
    """Keep the texts of image-text pairs that match their image, and add synthetic captions.

    A SOURCE is a folder of images with caption files (cat.txt or cat.caption beside cat.jpg, each
    line a text), a pattern, a table (.jsonl, .csv, .tsv, .parquet) with the columns image (a path,
    URL or bytes) and text, and optionally label and custom_id, a WebDataset (.tar), a prefix of an
    object store (s3://…), or - for JSON lines or paths on stdin. Captions are sampled with
    --top-p 0.9 unless options differ. The worker needs a captioning and a retrieval model.

    \b
    An accepted pair:  {"image", "text", "source": "web" or "synthetic", "probability", "cosine"}
    A failed pair:     {"image", "text", "source", "error": {"code", "message"}}, in --rejected

    OUT is replaced at the end, so it is never incomplete. After a crash, the same command resumes.

    \b
      blipline capfilt pairs.jsonl -o accepted.jsonl
      blipline capfilt photos/ -o accepted.jsonl --rejected rejected.jsonl
      blipline capfilt 'shards/*.tar' -o accepted.jsonl --captions 0 --threshold 0.7
      blipline capfilt pairs.csv -o accepted.jsonl --captions 2 --seed 1 --rejected rejected.jsonl
      blipline capfilt --calibrate labelled.jsonl --precision 0.98
      blipline capfilt pairs.jsonl -o accepted.jsonl --calibrate labelled.jsonl --report report
    """
    source_options = SourceOptions(
        image_column, text_column, null_separated, line_format, has_texts=True
    )
    _check_arguments(sources, source_options, output, rejected, labelled, report)
    checked = options.check_generation(generation, Task.CAPFILT)
    check_adapter(adapter)
    pairs = PairSources(sources, source_options, label_column)
    if labelled is not None and _is_chosen("threshold"):
        raise click.UsageError("--calibrate picks the threshold: omit --threshold")
    pairs.check_first(needs_labels=_is_chosen("label_column"))
    scored = None if labelled is None else replace(pairs, sources=[labelled])
    if scored is not None:
        scored.check_first(needs_labels=True)
    workspace = None if output is None else _workspace(output, rejected)
    with Client(redis_url) as client:
        # An unreachable Redis leaves no workspace.
        client.depth()
        calibration = None
        if scored is not None:
            saved = None if workspace is None else workspace.read()
            if saved is None:
                calibration = _calibrate(client, scored, precision, timeout_s)
                threshold = calibration.threshold
            else:
                # An interrupted run goes on with its threshold.
                threshold = saved.terms.threshold
        if workspace is None:
            assert calibration is not None
            _print(None, calibration, as_json)
            return Exit.OK
        terms = Terms(captions, threshold, synthetic_threshold, adapter)
        run = FilterRun(client, workspace, terms, checked, timeout_s=timeout_s)
        failures = FailureLines(listing=rejected or "--rejected FILE")
        statistics = _run(run, pairs, failures)
    if report is not None:
        write_report(Path(report), statistics, terms, calibration)
    _print(statistics, calibration, as_json)
    warn_if_empty(statistics.pairs, "pairs")
    if statistics.failed:
        failures.end(statistics.failed)
        warn(f"{statistics.failed:,} of {quantity(statistics.pairs, 'pair')} failed")
    return Exit.SOME_FAILED if statistics.failed else Exit.OK


options.show_defaults(capfilt, temperature="1", top_p="0.9")


def _is_chosen(name: str) -> bool:
    """Return whether the command line names a parameter."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _check_arguments(
    sources: Sequence[str],
    options: SourceOptions,
    output: str | None,
    rejected: str | None,
    labelled: str | None,
    report: str | None,
) -> None:
    if not sources and labelled is None:
        raise click.UsageError("name a SOURCE of pairs, or --calibrate LABELLED")
    if bool(sources) == (output is None):
        raise click.UsageError("SOURCE and -o OUT belong together: give both, or neither")
    if not sources and (report or rejected):
        raise click.UsageError("--report and --rejected need a SOURCE")
    if "-" in (output, rejected):
        raise click.UsageError("-o and --rejected name files, which a later run resumes, not -")
    for option, path in (("-o", output), ("--rejected", rejected)):
        if path is not None and path.lower().endswith(OTHER_FORMATS):
            raise click.UsageError(f"{option} {path}: JSON lines are written: name a .jsonl file")
    names = [*sources, *([] if labelled is None else [labelled])]
    if names.count("-") > 1:
        raise click.UsageError("- is standard input, which can be read once")
    arguments.check(names, options)
    check_distinct({"-o": output, "--rejected": rejected}, names)
    if report is not None:
        check_report_directory(Path(report))


def _workspace(output: str, rejected: str | None) -> Workspace:
    paths = {"accepted": Path(output)}
    if rejected is not None:
        paths["rejected"] = Path(rejected)
    workspace = Workspace(paths)
    workspace.check()
    return workspace


def _run(run: FilterRun, pairs: PairSources, failures: FailureLines) -> FilterStatistics:
    """Filter all pairs under a progress bar."""
    if run.resumed_pairs:
        warn(f"resumes after {quantity(run.resumed_pairs, 'pair')}")
    with progress_bar("filtering", None) as on_done:
        return run.run(pairs.pairs(), on_done, failures.add)


def _calibrate(
    client: Client, labelled: PairSources, precision: float, timeout_s: float | None
) -> Calibration:
    """Score labelled pairs and pick the threshold; failed pairs do not count."""
    terms = Terms(captions=0, threshold=0.0)
    stream = PartStream(client, new_id(), terms, {}, timeout_s=timeout_s)
    scores: list[tuple[float, bool]] = []
    errors: list[str] = []
    with progress_bar("calibrating", None) as on_done:
        for part, results in stream.results(divide(labelled.pairs(), PART_PAIRS)):
            for pair, result in zip(part.pairs, results, strict=True):
                if result.error is not None:
                    errors.append(result.error.message)
                elif pair.label is not None and result.filter_result is not None:
                    scores += [
                        (text.probability, pair.label) for text in result.filter_result.accepted
                    ]
            on_done(len(scores) + len(errors))
    if errors and not scores:
        raise InvalidInput(f"{labelled.sources[0]}: all labelled pairs failed: {errors[0]}")
    if errors:
        warn(f"{quantity(len(errors), 'labelled pair')} failed; the first: {errors[0]}")
    return calibrate(scores, precision)


def _print(
    statistics: FilterStatistics | None, calibration: Calibration | None, as_json: bool
) -> None:
    if as_json:
        figures = {} if statistics is None else statistics.summary()
        print_json(figures | ({} if calibration is None else {"calibration": asdict(calibration)}))
        return
    if calibration is not None:
        print_line(
            f"threshold {calibration.threshold:g}: precision {calibration.precision:.1%}, recall "
            f"{calibration.recall:.1%} of {quantity(calibration.pairs, 'labelled pair')}"
        )
    if statistics is None:
        return
    summary = statistics.summary()
    for source, name in (("web", "web text"), ("synthetic", "synthetic caption")):
        accepted, total = summary[source]["accepted"], sum(summary[source].values())
        print_line(f"accepted {accepted:,} of {quantity(total, name)}")
    if statistics.precision is not None and statistics.recall is not None:
        print_line(
            f"precision {statistics.precision:.1%}, recall {statistics.recall:.1%} of "
            f"{quantity(statistics.labelled, 'labelled text')}"
        )
