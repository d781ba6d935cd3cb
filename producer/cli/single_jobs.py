"""Jobs of a single item: submit, wait for the result, print it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ..connection.outage import outage_limit
from ..contract import ErrorCode, ErrorPayload, failure
from ..errors import BliplineError, InvalidInput, JobError, WaitTimeout
from ..job import Job
from ..ledger.blobs import is_reference, label
from ..results.text_sequences import TextSequence
from .exit_codes import Exit, warn
from .live_text import LiveText, live_text
from .output import print_json, print_line
from .progress import progress_bar

#: Help of `--timeout` for commands that wait for answers.
TIMEOUT_HELP: Final = "Seconds to wait for each answer; then the remaining jobs are cancelled."

#: Characters that would end a line or a field, or control a terminal.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[Value]):
    """The output of results of one kind, for people and as JSON."""

    #: Returns the fields of a result in a line of JSON.
    fields: Callable[[Value], dict[str, Any]]
    #: Prints a result for people, given its subject and whether it is the only one.
    show: Callable[[str, Value, bool], None]
    #: Prints a placeholder for a missing result, where the position of a line counts.
    show_missing: Callable[[], None] = lambda: None
    #: True to show texts while they grow, on stdout; `show_after` prints the rest of the result.
    grows: bool = False
    show_after: Callable[[str, Value], None] = lambda subject, value: None
    #: Returns the fields of a subject in a line of JSON.
    subject_fields: Callable[[str], dict[str, str]] = lambda image: {"image": image}


@dataclass(frozen=True, slots=True)
class SubmittedJob(Generic[Value]):
    """A subject (an image, a text or a question) with its job, or the error of its submission."""

    subject: str
    job: Job[Value] | None = None
    error: InvalidInput | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome(Generic[Value]):
    """The value of a job, or its error in the form of a results file."""

    value: Value | None = None
    error: ErrorPayload | None = None

    @property
    def ok(self) -> bool:
        """True if the job has a value."""
        return self.error is None


def show_text(image: str, text: str, alone: bool) -> None:
    """Print a text; if there are several images, on one line after its image."""
    print_line(text if alone else f"{printable(image)}\t{one_line(text)}")


#: Format of captions and answers.
TEXT: Final[OutputFormat[str]] = OutputFormat(fields=lambda text: {"text": text}, show=show_text)


def run_text_jobs(
    subjects: Sequence[str],
    submit: Callable[[str], Job[str]],
    output: OutputFormat[str],
    timeout_s: float,
    as_json: bool,
    options: Mapping[str, Any],
    *,
    ranks: bool = False,
) -> Exit:
    """Run jobs whose result is a text, or, by their options, several texts or their scores.

    `ranks` is true if the texts are ranked answers, of which JSON contains all.
    """
    has_sequences = options["num_return_sequences"] > 1 or options["output_scores"]
    if not has_sequences and not (ranks and as_json):
        return run_jobs(subjects, submit, output, timeout_s, as_json)
    sequences = OutputFormat(
        _sequence_fields, _show_sequences, subject_fields=output.subject_fields
    )
    return run_jobs(
        subjects, lambda subject: submit(subject).with_sequences(), sequences, timeout_s, as_json
    )


def _sequence_fields(texts: list[TextSequence]) -> dict[str, Any]:
    return {"text": texts[0].text, "sequences": [text.to_json() for text in texts]}


def _show_sequences(image: str, texts: list[TextSequence], alone: bool) -> None:
    """Print a line for each text, after its image and before its score, if there are several."""
    for text in texts:
        score = "" if text.logprob is None else f"\t{text.logprob:.4f}"
        print_line(("" if alone else f"{printable(image)}\t") + one_line(text.text) + score)


def one_line(text: str) -> str:
    """Return a text without line breaks and tabs."""
    return " ".join(text.split())


def run_jobs(
    subjects: Sequence[str],
    submit: Callable[[str], Job[Value]],
    output: OutputFormat[Value],
    timeout_s: float,
    as_json: bool,
) -> Exit:
    """Submit a job for each subject, then print the results in order."""
    submitted: list[SubmittedJob[Value]] = []
    failed = 0
    alone = len(subjects) == 1
    try:
        with progress_bar("answering", len(subjects), prints=True) as on_done:
            submitted.extend(submit_job(subject, submit) for subject in subjects)
            for done, job in enumerate(submitted, start=1):
                failed += not wait_and_print(job, output, timeout_s, alone, as_json).ok
                on_done(done)
    except BaseException:
        # No other process knows the ids of these jobs. Those that have ended do not change.
        cancel_jobs(job.job for job in submitted if job.job is not None)
        raise
    if all(job.job is None for job in submitted):
        return Exit.USAGE
    return Exit.SOME_FAILED if failed else Exit.OK


def submit_job(subject: str, submit: Callable[[str], Job[Value]]) -> SubmittedJob[Value]:
    """Submit a job; raises an error that applies to all subjects."""
    try:
        return SubmittedJob(subject, submit(subject))
    except InvalidInput as error:
        if error.code == ErrorCode.OPTION_INVALID:
            raise
        return SubmittedJob(subject, error=error)


def wait_and_print(
    job: SubmittedJob[Value],
    output: OutputFormat[Value],
    timeout_s: float,
    alone: bool,
    as_json: bool,
) -> JobOutcome[Value]:
    """Wait for the result of a job and print it, or its error; raises WaitTimeout."""
    with live_text("" if alone else f"{printable(job.subject)}\t") as live:
        outcome = _outcome(job, timeout_s, live if output.grows else None)
    if outcome.error is not None:
        # Many messages begin with the image themselves.
        message = escape_controls(outcome.error["message"].removeprefix(f"{job.subject}: "))
        warn(f"{printable(job.subject)}: {message} ({outcome.error['code']})")
    if as_json:
        fields = {"error": outcome.error} if outcome.value is None else output.fields(outcome.value)
        status = {"status": "ok" if outcome.ok else "error"}
        print_json(output.subject_fields(job.subject) | status | fields)
    elif outcome.value is not None and live.is_shown:
        output.show_after(job.subject, outcome.value)
    elif outcome.value is not None:
        output.show(job.subject, outcome.value, alone)
    else:
        output.show_missing()
    return outcome


def cancel_jobs(jobs: Iterable[Job[Any]]) -> None:
    """Cancel jobs; those that have ended do not change."""
    # Ctrl-C during an outage of Redis must not wait for its end.
    with suppress(BliplineError), outage_limit(0.0):
        for job in jobs:
            job.cancel()


def image_source(image: str, command: str | None = None, for_folders: str = "") -> str:
    """Return the image that an argument names.

    A local file named like a reference, as `file:cat.jpg`, is a file. Raises InvalidInput for a
    directory and for an unexpanded pattern, with the remedy; `command` is the shell command, if it
    takes several images, and `for_folders` the one that takes a whole folder, with {} in its place.
    """
    if os.path.isdir(image):
        files = f"name its files: {command} {os.path.join(image, '*.jpg')}"
        if for_folders:
            files += f"; or the whole folder: {for_folders.format(image)}"
        message = f"a directory; {files if command else 'name a file in it'}"
        raise InvalidInput(message, ErrorCode.IMAGE_UNREACHABLE)
    if "*" in image and "://" not in image and not os.path.exists(image):
        message = "no file matches; remove the quotes so that the shell expands the pattern"
        raise InvalidInput(message, ErrorCode.IMAGE_UNREACHABLE)
    return local_path(image)


def local_path(image: str) -> str:
    """Return a path that no reference resembles if the file exists, else the image unchanged."""
    if is_reference(image) and os.path.isfile(image):
        return os.path.join(os.curdir, image)
    return image


def printable(subject: str) -> str:
    """Return a subject on one line: short, and with its control characters escaped."""
    return escape_controls(label(subject))


def escape_controls(text: str) -> str:
    """Return a text with its control characters, such as line breaks, as in a Python string."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def _outcome(
    job: SubmittedJob[Value], timeout_s: float, live: LiveText | None
) -> JobOutcome[Value]:
    if job.job is None:
        assert job.error is not None
        return JobOutcome(error=_error(job.error.code, str(job.error)))
    try:
        if live is not None:
            for part in job.job.stream(timeout_s):
                live.show(part)
        return JobOutcome(job.job.result(timeout_s))
    except JobError as error:
        return JobOutcome(error=_error(error.code, getattr(error, "message", str(error))))
    except WaitTimeout:
        raise WaitTimeout(
            f"{printable(job.subject)}: no result after {timeout_s:g} s; the job was "
            f"{job.job.status().value} and is now cancelled. Check that a worker runs on this "
            "Redis server (`python -m worker`)"
        ) from None


def _error(code: str, message: str) -> ErrorPayload:
    return failure(code, message)["error"]
