"""`blipline chat`: a question with a history, or an interactive dialogue."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import click

from ..client import Client
from ..contract import ErrorCode, Task
from ..errors import InvalidInput
from ..job import Job
from ..jsonl import read_questions
from ..ledger import blobs
from . import options
from .exit_codes import Exit, warn
from .live_text import stream_options
from .output import print_line
from .single_jobs import (
    TEXT,
    TIMEOUT_HELP,
    OutputFormat,
    SubmittedJob,
    cancel_jobs,
    image_source,
    one_line,
    printable,
    run_text_jobs,
    wait_and_print,
)

_JSON_HELP = (
    'Print a JSON line for each question: {"image", "question", "status", "text" or "error"}.'
)
_TURN_HELP = "An earlier turn of the dialogue, oldest first; may be repeated."
_PROMPT: Final = "> "

#: Errors of the image or the worker, which every further question would also cause.
_FATAL_CODES: Final = frozenset(
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
    """Questions about one image, each submitted with the turns before it."""

    submit: Callable[[str, Sequence[Turn]], Job[str]]
    output: OutputFormat[str]
    timeout_s: float
    as_json: bool
    turns: list[Turn] = field(default_factory=list)

    def ask_all(self, questions: Iterable[str]) -> Exit:
        """Ask all questions; stop after a fatal error if none was answered before."""
        failed = answered = False
        for question in questions:
            code = self._ask(question)
            failed, answered = failed or code is not None, answered or code is None
            if code in _FATAL_CODES and not answered:
                break
        return Exit.SOME_FAILED if failed else Exit.OK

    def _ask(self, question: str) -> str | None:
        """Print the answer and append the turn; return the code of an error."""
        job = self.submit(question, self.turns)
        try:
            outcome = wait_and_print(
                SubmittedJob(question, job), self.output, self.timeout_s, True, self.as_json
            )
        except BaseException:
            cancel_jobs([job])
            raise
        if outcome.value is not None:
            self.turns.append((question, outcome.value))
        return None if outcome.error is None else outcome.error["code"]


@click.command()
@click.argument("image")
@click.argument("question", required=False)
@click.option("--turn", "turns", nargs=2, multiple=True, metavar="QUESTION ANSWER", help=_TURN_HELP)
@options.stream
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.adapter
@options.redis_url
@options.when_full("raise")
@options.generation
def chat(
    image: str,
    question: str | None,
    turns: Sequence[Turn],
    stream: bool,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Ask questions about an image in a dialogue.

    The image is a file, a URL, blob:… or data:…. With a QUESTION, the command answers it with
    the turns as its history. Without one, it reads questions from stdin, one per line, and adds
    each answer to the history: on a terminal until Ctrl-D. In a pipe, an empty line stands for a
    question that failed. If the history is too long for the model, its oldest turns are dropped.

    \b
      blipline chat cat.jpg
      blipline chat cat.jpg "what color is it?" --turn "what is on the sofa?" "a cat"
      blipline chat cat.jpg --json < questions.txt > answers.jsonl
    """
    options.check_generation(submit_options, Task.CHAT)
    live = stream_options(stream, as_json)
    text = replace(TEXT, grows=bool(live))
    with Client(redis_url) as client:
        if question is None:
            source = _read_image(image)

            def ask(question: str, turns: Sequence[Turn]) -> Job[str]:
                return client.chat(source, question, turns, **submit_options, **live)

            return _converse(image, ask, text, timeout_s, as_json, list(turns))

        def submit(image: str) -> Job[str]:
            source = image_source(image)
            return client.chat(source, question, turns, **submit_options, **live)

        output = replace(text, subject_fields=lambda image: {"image": image, "question": question})
        return run_text_jobs([image], submit, output, timeout_s, as_json, submit_options)


def _read_image(image: str) -> str | bytes:
    """Read the image once, so that a changed file does not affect the dialogue."""
    try:
        return blobs.read(image_source(image))
    except InvalidInput as error:
        raise InvalidInput(f"{printable(image)}: {error} ({error.code})") from None


def _converse(
    image: str,
    ask: Callable[[str, Sequence[Turn]], Job[str]],
    text: OutputFormat[str],
    timeout_s: float,
    as_json: bool,
    turns: list[Turn],
) -> Exit:
    """Run a dialogue with the questions on stdin."""
    output = replace(text, subject_fields=lambda question: {"image": image, "question": question})
    if sys.stdin.isatty():
        return Dialogue(ask, output, timeout_s, as_json, turns).ask_all(_prompt_questions(image))
    # In a pipe, the n-th line answers the n-th question, so an answer is always a single line.
    output = replace(
        output,
        show=lambda question, text, alone: print_line(one_line(text)),
        show_missing=lambda: print_line(""),
    )
    questions = read_questions(sys.stdin.buffer)
    return Dialogue(ask, output, timeout_s, as_json, turns).ask_all(questions)


def _prompt_questions(image: str) -> Iterator[str]:
    """Prompt for questions; the prompts go to stderr unless stdout is the terminal."""
    warn(f"ask about {printable(image)}; Ctrl-D ends")
    interactive = sys.stdout.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  (gives `input` line editing and a history)
    while True:
        try:
            with nullcontext() if interactive else redirect_stdout(sys.stderr):
                question = input(_PROMPT).strip()
        except EOFError:
            # End the line of the prompt.
            click.echo(err=True)
            return
        if question:
            yield question
