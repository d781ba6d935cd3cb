"""`blipline capfilt`: a filter of image-text pairs that adds synthetic captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from ..capfilt.calibration import Calibration, calibrate
from ..capfilt.filter_run import FilterRun
from ..capfilt.pairs import ImageTextPair, divide, read_pairs
from ..capfilt.report import check_report_directory, write_report
from ..capfilt.statistics import FilterStatistics
from ..capfilt.stream import PART_PAIRS, PartStream, Terms
from ..capfilt.workspace import Workspace
from ..client import Client
from ..contract import CAPTIONS, MAX_CAPTIONS, THRESHOLD
from ..errors import InvalidInput
from ..ledger.ids import new_id
from ..validation import check_options
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .progress import progress_bar
from .single_jobs import local_path

_PROBABILITY: Final = click.FloatRange(0, 1)
_TIMEOUT_HELP: Final = "Seconds to wait for the next result; without it, no limit."


@dataclass(frozen=True, slots=True)
class PairFile:
    """A file of pairs and its format."""

    stream: BinaryIO
    is_csv: bool

    @classmethod
    def of(cls, stream: BinaryIO, file_format: str | None) -> PairFile:
        """Return the file; its name tells the format unless it is given."""
        return cls(stream, (file_format or Path(stream.name).suffix.lstrip(".")) == "csv")

    def pairs(self) -> Iterator[ImageTextPair]:
        """Yield the pairs of the file."""
        return read_pairs(self.stream, is_csv=self.is_csv)


@click.command()
@click.argument("file", metavar="[PAIRS]", type=click.File("rb"), required=False)
@click.option("-o", "--output", metavar="OUT", help="File of the accepted pairs, as JSON lines.")
@click.option("--rejected", metavar="FILE", help="Also write the rejected and the failed pairs.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv"]),
    help="Format of the pairs; without it, csv for names that end with .csv, else jsonl.",
)
@click.option(
    "--captions",
    type=click.IntRange(0, MAX_CAPTIONS),
    default=CAPTIONS,
    show_default=True,
    help="Synthetic captions of each image; 0 = only filter.",
)
@click.option(
    "--threshold",
    type=_PROBABILITY,
    default=THRESHOLD,
    show_default=True,
    help="Keep texts from this probability on.",
)
@click.option(
    "--synthetic-threshold",
    type=_PROBABILITY,
    help="Threshold of synthetic captions, if it differs.",
)
@click.option(
    "--calibrate",
    "labelled",
    metavar="LABELLED",
    type=click.File("rb"),
    help="Pick the threshold from pairs with labels, for --precision.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Wanted share of right texts among the accepted ones.",
)
@click.option("--report", metavar="DIR", help="Write a report: figures, histogram, closest calls.")
@options.timeout(None, _TIMEOUT_HELP)
@options.as_json("Print the figures as a JSON object.")
@options.redis_url
@options.decoding
def capfilt(
    file: BinaryIO | None,
    output: str | None,
    rejected: str | None,
    file_format: str | None,
    captions: int,
    threshold: float,
    synthetic_threshold: float | None,
    labelled: BinaryIO | None,
    precision: float,
    report: str | None,
    timeout_s: float | None,
    as_json: bool,
    redis_url: str | None,
    **generation: Any,
) -> Exit:
    """Keep the texts of image-text pairs that match their image, and add synthetic captions.

    PAIRS is a JSONL or CSV file with the fields image (a path, URL or blob:<sha256>) and text, and
    optionally label (true: the text is right) and custom_id; - is stdin. Captions are sampled with
    --top-p 0.9 unless options differ. The worker needs a captioning and a retrieval model.

    \b
    A accepted pair:    {"image", "text", "source": "web" or "synthetic", "probability", "cosine"}
    A failed pair:  {"image", "text", "source", "error": {"code", "message"}}, in --rejected

    OUT is replaced at the end, so it is never incomplete. After a crash, the same command resumes.

    \b
      blipline capfilt pairs.jsonl -o accepted.jsonl
      blipline capfilt pairs.csv -o accepted.jsonl --captions 2 --seed 1 --rejected rejected.jsonl
      blipline capfilt --calibrate labelled.jsonl --precision 0.98
      blipline capfilt pairs.jsonl -o accepted.jsonl --calibrate labelled.jsonl --report report
    """
    _check_arguments(file, output, rejected, labelled, report)
    with Client(redis_url) as client:
        workspace = None if output is None else _workspace(output, rejected)
        calibration = None
        if labelled is not None:
            saved = None if workspace is None else workspace.read()
            if saved is None:
                scored = PairFile.of(labelled, file_format)
                calibration = _calibrate(client, scored, precision, timeout_s)
                threshold = calibration.threshold
            else:
                # An interrupted run goes on with its threshold.
                threshold = saved.terms.threshold
        if file is None or workspace is None:
            assert calibration is not None
            _print(None, calibration, as_json)
            return Exit.OK
        terms = Terms(captions, threshold, synthetic_threshold)
        checked = check_options(generation, None)
        run = FilterRun(client, workspace, terms, checked, locate=local_path, timeout_s=timeout_s)
        statistics = _run(run, PairFile.of(file, file_format))
    if report is not None:
        write_report(Path(report), statistics, terms, calibration, local_path)
    _print(statistics, calibration, as_json)
    if statistics.failed:
        warn(f"{statistics.failed:,} of {statistics.pairs:,} pairs failed")
    return Exit.SOME_FAILED if statistics.failed else Exit.OK


def _check_arguments(
    file: BinaryIO | None,
    output: str | None,
    rejected: str | None,
    labelled: BinaryIO | None,
    report: str | None,
) -> None:
    if file is None and labelled is None:
        raise click.UsageError("name a file of PAIRS, or --calibrate LABELLED")
    if (file is None) != (output is None):
        raise click.UsageError("PAIRS and -o OUT belong together: give both, or neither")
    if file is None and (report or rejected):
        raise click.UsageError("--report and --rejected need PAIRS")
    if output is not None and output == rejected:
        raise click.UsageError("-o and --rejected name the same file")
    if report is not None:
        check_report_directory(Path(report))


def _workspace(output: str, rejected: str | None) -> Workspace:
    paths = {"accepted": Path(output)}
    if rejected is not None:
        paths["rejected"] = Path(rejected)
    return Workspace(paths)


def _run(run: FilterRun, pairs: PairFile) -> FilterStatistics:
    """Filter all pairs under a progress bar."""
    if run.resumed_pairs:
        warn(f"resumes after {run.resumed_pairs:,} pairs")
    with progress_bar("filtering", None) as on_done:
        return run.run(pairs.pairs(), on_done)


def _calibrate(
    client: Client, labelled: PairFile, precision: float, timeout_s: float | None
) -> Calibration:
    """Score labelled pairs and pick the threshold; failed pairs do not count."""
    terms = Terms(captions=0, threshold=0.0)
    stream = PartStream(client, new_id(), terms, {}, locate=local_path, timeout_s=timeout_s)
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
        raise InvalidInput(f"{labelled.stream.name}: all labelled pairs failed: {errors[0]}")
    if errors:
        warn(f"{len(errors):,} labelled pairs failed; the first: {errors[0]}")
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
            f"{calibration.recall:.1%} of {calibration.pairs:,} labelled pairs"
        )
    if statistics is None:
        return
    summary = statistics.summary()
    for source, name in (("web", "web texts"), ("synthetic", "synthetic captions")):
        accepted, total = summary[source]["accepted"], sum(summary[source].values())
        print_line(f"accepted {accepted:,} of {total:,} {name}")
    if statistics.precision is not None and statistics.recall is not None:
        print_line(
            f"precision {statistics.precision:.1%}, recall {statistics.recall:.1%} of "
            f"{statistics.labelled:,} labelled texts"
        )
