"""`blipline chat`: a question after others, or a whole dialogue."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import click

from ..client import Client
from ..contract import ErrorCode
from ..errors import InvalidInput
from ..job import Job
from ..jsonl import read_questions
from ..ledger import blobs
from . import options
from .exit_codes import Exit, warn
from .output import print_line
from .single_jobs import (
    TEXT,
    TIMEOUT_HELP,
    OutputFormat,
    SubmittedJob,
    answer,
    cancel,
    check_image,
    one_line,
    wait_and_print,
)

_JSON_HELP = 'A JSON line for each question: {"image", "question", "status", "text" or "error"}.'
_TURN_HELP = "What was said before, oldest first; repeat it for each turn."
_PROMPT: Final = "> "

#: What is wrong with an image or a worker is wrong for every question about it.
_HOPELESS: Final = frozenset(
    {
        ErrorCode.IMAGE_UNREACHABLE,
        ErrorCode.IMAGE_BLOCKED,
        ErrorCode.IMAGE_TOO_LARGE,
        ErrorCode.IMAGE_INVALID,
        ErrorCode.UNSUPPORTED_TASK,
    }
)

Turn = tuple[str, str]


@dataclass(slots=True)
class Dialogue:
    """Questions about one image, each asked in the light of those before it."""

    submit: Callable[[str, Sequence[Turn]], Job[str]]
    form: OutputFormat[str]
    timeout_s: float
    as_json: bool
    turns: list[Turn] = field(default_factory=list)

    def ask_all(self, questions: Iterable[str]) -> Exit:
        """Until there are no more questions, or until it is clear that none will be answered."""
        failed = answered = False
        for question in questions:
            code = self._ask(question)
            failed, answered = failed or code is not None, answered or code is None
            if code in _HOPELESS and not answered:
                break
        return Exit.SOME_FAILED if failed else Exit.OK

    def _ask(self, question: str) -> str | None:
        """Print the answer and remember it; returns the code of an error."""
        job = self.submit(question, self.turns)
        try:
            ended = wait_and_print(
                SubmittedJob(question, job), self.form, self.timeout_s, True, self.as_json
            )
        except BaseException:
            cancel([job])
            raise
        if ended.value is not None:
            self.turns.append((question, ended.value))
        return None if ended.error is None else ended.error["code"]


@click.command()
@click.argument("image")
@click.argument("question", required=False)
@click.option("--turn", "turns", nargs=2, multiple=True, metavar="QUESTION ANSWER", help=_TURN_HELP)
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.redis_url
@options.when_full("raise")
@options.generation
def chat(
    image: str,
    question: str | None,
    turns: Sequence[Turn],
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **how: Any,
) -> Exit:
    """Ask on in a dialogue about an image.

    The image is a file, a URL, or a blob: reference. A QUESTION is answered in the light of the
    turns before it. Without one, questions come from stdin, one a line, and each answer is
    remembered: on a terminal until Ctrl-D; in a pipe an empty line stands for an answer that there
    is none of. What is too long for the model is cut from the oldest turn on.

    \b
      blipline chat cat.jpg
      blipline chat cat.jpg "what color is it?" --turn "what is on the sofa?" "a cat"
      blipline chat cat.jpg --json < questions.txt > answers.jsonl
    """
    with Client(redis_url) as client:
        if question is None:
            source = _read(image)

            def ask(question: str, turns: Sequence[Turn]) -> Job[str]:
                return client.chat(source, question, turns, **how)

            return _converse(image, ask, timeout_s, as_json, list(turns))

        def submit(image: str) -> Job[str]:
            check_image(image)
            return client.chat(image, question, turns, **how)

        form = replace(TEXT, about=lambda image: {"image": image, "question": question})
        return answer([image], submit, form, timeout_s, as_json)


def _read(image: str) -> str | bytes:
    """Once: a dialogue is about one picture, whatever becomes of its file."""
    try:
        check_image(image)
        return blobs.read(image)
    except InvalidInput as error:
        raise InvalidInput(f"{image}: {error} ({error.code})") from None


def _converse(
    image: str,
    ask: Callable[[str, Sequence[Turn]], Job[str]],
    timeout_s: float,
    as_json: bool,
    turns: list[Turn],
) -> Exit:
    """With a person, or with a program that holds the other end of stdin."""
    form = replace(TEXT, about=lambda question: {"image": image, "question": question})
    if sys.stdin.isatty():
        return Dialogue(ask, form, timeout_s, as_json, turns).ask_all(_typed(image))
    questions = read_questions(sys.stdin.buffer)
    return Dialogue(ask, _by_lines(form), timeout_s, as_json, turns).ask_all(questions)


def _by_lines(form: OutputFormat[str]) -> OutputFormat[str]:
    """The n-th line is that of the n-th question, whatever the model says."""
    return replace(
        form,
        show=lambda question, text, alone: print_line(one_line(text)),
        show_none=lambda: print_line(""),
    )


def _typed(image: str) -> Iterator[str]:
    """What a person asks; the prompts go where the answers do not, unless that is the terminal."""
    warn(f"ask about {image}; Ctrl-D ends")
    shown = sys.stdout.isatty()
    if shown:
        with suppress(ImportError):
            import readline  # noqa: F401  (`input` then has arrow keys, and the lines before)
    while True:
        try:
            with nullcontext() if shown else redirect_stdout(sys.stderr):
                question = input(_PROMPT).strip()
        except EOFError:
            # What comes next begins on a line of its own.
            click.echo(err=True)
            return
        if question:
            yield question
