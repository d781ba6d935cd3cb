"""Answers for a person who waits for them: what the commands of single jobs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ..contract import ErrorCode, failure
from ..errors import BliplineError, InvalidInput, JobError, WaitTimeout
from ..job import Job
from .exit_codes import Exit, warn
from .output import print_json, print_line
from .progress import bar

#: For `--timeout` of every command that waits for answers.
TIMEOUT_HELP: Final = "Seconds to wait for each answer; then what is left is cancelled."

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[Value]):
    """How answers of one kind are printed."""

    #: What a line of JSON says of the answer.
    fields: Callable[[Value], dict[str, Any]]
    #: Prints an answer for people, given what was asked about and whether it is the only one.
    show: Callable[[str, Value, bool], None]
    #: Holds the place of an answer that there is none of, where a place is needed.
    show_none: Callable[[], None] = lambda: None
    #: What a line of JSON says of what was asked about.
    about: Callable[[str], dict[str, str]] = lambda image: {"image": image}


@dataclass(frozen=True, slots=True)
class SubmittedJob(Generic[Value]):
    """What was asked about and the job it became, or why it did not."""

    subject: str
    job: Job[Value] | None = None
    refusal: InvalidInput | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome(Generic[Value]):
    """An answer, or an error as in a results file."""

    value: Value | None = None
    error: dict[str, str] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


def show_text(image: str, text: str, alone: bool) -> None:
    """A line each, whatever the model says."""
    print_line(text if alone else f"{image}\t{one_line(text)}")


#: Of captions and answers.
TEXT: Final[OutputFormat[str]] = OutputFormat(fields=lambda text: {"text": text}, show=show_text)


def one_line(text: str) -> str:
    """A text that stays in its line and in its column."""
    return " ".join(text.split())


def answer(
    subjects: Sequence[str],
    submit: Callable[[str], Job[Value]],
    form: OutputFormat[Value],
    timeout_s: float,
    as_json: bool,
) -> Exit:
    """Submit everything, then print the answers in order."""
    asked: list[SubmittedJob[Value]] = []
    failed = 0
    try:
        with bar("answering", len(subjects), prints=True) as on_done:
            asked.extend(ask(subject, submit) for subject in subjects)
            for done, one in enumerate(asked, start=1):
                failed += not wait_and_print(one, form, timeout_s, len(subjects) == 1, as_json).ok
                on_done(done)
    except BaseException:
        # Nobody will fetch these answers. Jobs that have ended stay as they are.
        cancel(one.job for one in asked if one.job is not None)
        raise
    if all(one.job is None for one in asked):
        return Exit.USAGE
    return Exit.SOME_FAILED if failed else Exit.OK


def check_image(image: str, command: str | None = None) -> None:
    """The two slips that a shell makes likely, each with its remedy.

    `command` is that of a shell, where it takes several images.
    """
    if os.path.isdir(image):
        files = f"name its files: {command} {os.path.join(image, '*.jpg')}"
        remedy = f"a directory; {files if command else 'name a file in it'}"
        raise InvalidInput(remedy, ErrorCode.IMAGE_UNREACHABLE)
    if "*" in image and "://" not in image and not os.path.exists(image):
        remedy = "no file matches; a pattern needs to stand without quotes, for the shell to fill"
        raise InvalidInput(remedy, ErrorCode.IMAGE_UNREACHABLE)


def ask(subject: str, submit: Callable[[str], Job[Value]]) -> SubmittedJob[Value]:
    """Submit one; what is wrong for every image alike is raised."""
    try:
        return SubmittedJob(subject, submit(subject))
    except InvalidInput as error:
        if error.code == ErrorCode.OPTION_INVALID:
            raise
        return SubmittedJob(subject, refusal=error)


def wait_and_print(
    one: SubmittedJob[Value],
    form: OutputFormat[Value],
    timeout_s: float,
    alone: bool,
    as_json: bool,
) -> JobOutcome[Value]:
    """Wait for an answer and print it, or tell why there is none."""
    ended = _outcome(one, timeout_s)
    if ended.error is not None:
        warn(f"{one.subject}: {ended.error['message']} ({ended.error['code']})")
    if as_json:
        said = {"error": ended.error} if ended.value is None else form.fields(ended.value)
        status = {"status": "ok" if ended.ok else "error"}
        print_json(form.about(one.subject) | status | said)
    elif ended.value is not None:
        form.show(one.subject, ended.value, alone)
    else:
        form.show_none()
    return ended


def _outcome(one: SubmittedJob[Value], timeout_s: float) -> JobOutcome[Value]:
    if one.job is None:
        assert one.refusal is not None
        return JobOutcome(error=_error(one.refusal.code, str(one.refusal)))
    try:
        return JobOutcome(one.job.result(timeout_s))
    except JobError as error:
        return JobOutcome(error=_error(error.code, getattr(error, "message", str(error))))
    except WaitTimeout:
        raise WaitTimeout(
            f"{one.subject}: no answer after {timeout_s:g} s; it was {one.job.status().value}, and "
            "is cancelled now. Is a worker running on this Redis (`python -m worker`)?"
        ) from None


def cancel(jobs: Iterable[Job[Any]]) -> None:
    """Nobody waits for these any more; those that have ended stay as they are."""
    with suppress(BliplineError):
        for job in jobs:
            job.cancel()


def _error(code: str, message: str) -> dict[str, str]:
    error: dict[str, str] = failure(code, message)["error"]
    return error
