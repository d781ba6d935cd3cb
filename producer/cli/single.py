"""`blipline caption` and `blipline ask`: answers for a person who waits for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from ..client import Client
from ..contract import ErrorCode
from ..errors import BliplineError, InvalidInput, JobError, WaitTimeout
from ..job import Job
from . import options
from .exits import Exit, complain
from .output import print_json, print_line
from .progress import bar

_TIMEOUT_HELP = "Seconds to wait for each answer; then what is left is cancelled."
_JSON_HELP = 'A JSON line for each image: {"image", "status", "text" or "error"}.'


@dataclass(frozen=True, slots=True)
class _Asked:
    """An image and the job it became, or why it did not."""

    image: str
    job: Job | None = None
    refusal: InvalidInput | None = None


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--prompt", metavar="TEXT", help="How every caption begins.")
@options.timeout(options.ANSWER_TIMEOUT_S, _TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.redis_url
@options.generation
def caption(
    images: Sequence[str],
    prompt: str | None,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    deadline_s: float | None,
    **generation: Any,
) -> Exit:
    """Describe images.

    An image is a file, a URL, or a blob: reference. One prints its caption; several print a line
    each: the image, a tab, the caption.

    \b
      blipline caption cat.jpg
      blipline caption photos/*.jpg --json > captions.jsonl
      blipline caption https://example.com/cat.jpg --prompt "a photo of"
      blipline caption cat.jpg --temperature 0.8 --seed 1
    """
    with Client(redis_url) as client:
        return _answer(
            images,
            lambda image: client.caption(image, prompt, deadline_s=deadline_s, **generation),
            timeout_s,
            as_json,
        )


@click.command()
@click.argument("image")
@click.argument("question")
@options.timeout(options.ANSWER_TIMEOUT_S, _TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.redis_url
@options.generation
def ask(
    image: str,
    question: str,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    deadline_s: float | None,
    **generation: Any,
) -> Exit:
    """Ask a question about an image.

    The image is a file, a URL, or a blob: reference.

    \b
      blipline ask cat.jpg "how many cats are there?"
      blipline ask https://example.com/cat.jpg "what color is it?" --json
    """
    with Client(redis_url) as client:
        return _answer(
            [image],
            lambda image: client.ask(image, question, deadline_s=deadline_s, **generation),
            timeout_s,
            as_json,
        )


def _answer(
    images: Sequence[str], submit: Callable[[str], Job], timeout_s: float, as_json: bool
) -> Exit:
    """Submit everything, then print the answers in order."""
    asked: list[_Asked] = []
    failed = 0
    try:
        with bar("answering", len(images), prints=True) as on_done:
            asked.extend(_submit(image, submit) for image in images)
            for done, one in enumerate(asked, start=1):
                text, error = _outcome(one, timeout_s)
                failed += error is not None
                _show(one.image, text, error, alone=len(images) == 1, as_json=as_json)
                on_done(done)
    except BaseException:
        # Nobody will fetch these answers. Jobs that have ended stay as they are.
        _cancel(one.job for one in asked if one.job is not None)
        raise
    if all(one.job is None for one in asked):
        return Exit.USAGE
    return Exit.SOME_FAILED if failed else Exit.OK


def _submit(image: str, submit: Callable[[str], Job]) -> _Asked:
    try:
        _check(image)
        return _Asked(image, submit(image))
    except InvalidInput as error:
        if error.code == ErrorCode.OPTION_INVALID:
            # Wrong for every image alike.
            raise
        return _Asked(image, refusal=error)


def _check(image: str) -> None:
    """The two slips that a shell makes likely, each with its remedy."""
    if os.path.isdir(image):
        remedy = f"a directory; name its files: blipline caption {os.path.join(image, '*.jpg')}"
        raise InvalidInput(remedy, ErrorCode.IMAGE_UNREACHABLE)
    if "*" in image and "://" not in image and not os.path.exists(image):
        remedy = "no file matches; a pattern needs to stand without quotes, for the shell to fill"
        raise InvalidInput(remedy, ErrorCode.IMAGE_UNREACHABLE)


def _outcome(one: _Asked, timeout_s: float) -> tuple[str | None, dict[str, str] | None]:
    """The text, or the error as in a results file."""
    if one.job is None:
        assert one.refusal is not None
        return None, {"code": one.refusal.code, "message": str(one.refusal)}
    try:
        return one.job.result(timeout_s), None
    except JobError as error:
        return None, {"code": error.code, "message": getattr(error, "message", str(error))}
    except WaitTimeout:
        raise WaitTimeout(
            f"{one.image}: no answer after {timeout_s:g} s; it was {one.job.status().value}, and "
            "is cancelled now. Is a worker running on this Redis (`python -m worker`)?"
        ) from None


def _show(
    image: str, text: str | None, error: dict[str, str] | None, *, alone: bool, as_json: bool
) -> None:
    if error is not None:
        complain(f"{image}: {error['message']} ({error['code']})")
    if as_json:
        ended = {"status": "ok", "text": text} if error is None else {"status": "error"}
        print_json({"image": image} | ended | ({"error": error} if error else {}))
    elif text is not None:
        # A line each, whatever the model says.
        print_line(text if alone else f"{image}\t{' '.join(text.split())}")


def _cancel(jobs: Iterable[Job]) -> None:
    with suppress(BliplineError):
        for job in jobs:
            job.cancel()
