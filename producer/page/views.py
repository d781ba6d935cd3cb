"""The HTML of the page's outputs. This module escapes every external value.

Gradio renders it as Markdown, because its HTML component needs a policy that allows pages to
evaluate strings. Markdown leaves a single line that begins with a block element's tag unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape as escape_html
from typing import Final
from urllib.parse import quote

from ..contract import Queue
from ..job import Match, Result
from ..ledger.records import Depth
from ..results.description import Candidate, Description
from ..results.progress import Progress
from .messages import as_sentence

#: The indicator of a pending answer.
WAITING: Final = '<p class="waiting" role="status">Waiting for the answer</p>'

#: Labels of the queue depths.
_DEPTHS: Final = {Queue.INTERACTIVE: "open requests", Queue.BULK: "open batch items"}

#: Names of the rankings of descriptions.
_RANKINGS: Final = {"match": "image-text matching", "length": "length and novelty"}

#: Letters and digits, with apostrophes or hyphens inside: ``don't`` is one word.
_WORD: Final = re.compile(r"\w+(?:['\u2019-]\w+)*")


def header(name: str, depth: Depth | None, *, can_leave: bool) -> str:
    """Return the title, the queue depths, and the tenant's name with a button to sign out."""
    leave = f'<form method="post" action="logout"><button>{escape(name)}: sign out</button></form>'
    return (
        '<header class="head"><div><h1>Blipline</h1>'
        f"<p>Captions, answers and dialogues about images.</p></div>{facts(depth)}"
        f"{leave if can_leave else ''}</header>"
    )


def facts(depth: Depth | None) -> str:
    """Return the queue depths; dashes if they are unknown."""
    values = [
        (label, "-" if depth is None else f"{depth.items[queue]:,}")
        for queue, label in _DEPTHS.items()
    ]
    values.append(("running jobs", "-" if depth is None else f"{depth.running_jobs:,}"))
    pairs = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in values)
    return f'<dl class="facts" aria-label="Queue depths">{pairs}</dl>'


def answer(text: str, seconds: float) -> str:
    """Return a text with its statistics and the elapsed time."""
    return (
        f'<article class="answer">{_copyable("answer-text", text)}'
        f"{_details(statistics(text), seconds)}</article>"
    )


def growing_answer(text: str) -> str:
    """Return a text that still grows: without statistics and without a button to copy it."""
    return f'<article class="answer"><p class="growing">{escape(text)}</p></article>'


def for_image(image: str, html: str, fallback: str = "") -> str:
    """Return HTML that answers.js shows while the image is chosen, and `fallback` otherwise."""
    return f'<blockquote class="image-answer" cite="{escape(image)}">{html}</blockquote>{fallback}'


def dialogue(
    turns: Sequence[tuple[str, str]],
    seconds: float | None = None,
    pending: str | None = None,
    reply: str = "",
) -> str:
    """Return the turns of a dialogue, oldest first.

    The statistics of the last answer follow if `seconds` is given, or the `pending` question with
    its `reply` so far.
    """
    if not turns and pending is None:
        return '<div class="dialogue empty">Ask a question about the image.</div>'
    body = "".join(
        f"{_question(question)}{_copyable('dialogue-answer', reply)}" for question, reply in turns
    )
    if pending is not None:
        growing = f'<p class="growing">{escape(reply)}</p>'
        body += _question(pending) + (growing if reply else WAITING)
    elif seconds is not None:
        body += _details(statistics(turns[-1][1]), seconds)
    # A screen reader reads an answer once it is complete.
    live = "off" if reply else "polite"
    return f'<div class="dialogue" role="log" aria-live="{live}">{body}</div>'


def bars(matches: Sequence[Match], seconds: float) -> str:
    """Return a bar for each text's probability, the most probable text first."""
    rows = "".join(
        f'<li><span class="term">{escape(match.text)}</span>'
        f'<span class="value">{match.probability:.3f}</span>'
        f'<meter min="0" max="1" value="{match.probability:.4f}"></meter></li>'
        for match in sorted(matches, key=lambda match: -match.probability)
    )
    return (
        f'<article class="answer"><ul class="bars">{rows}</ul>'
        f"{_details(_count(len(matches), 'text'), seconds)}</article>"
    )


def description(description: Description, seconds: float) -> str:
    """Return a description with its statistics, and its candidates in a closed list."""
    summary = f"{statistics(description.text)} · {_count(description.rounds, 'round')}"
    warning = ""
    if description.warning:
        warning = f'<p class="warning-text">{escape(as_sentence(description.warning))}</p>'
    candidates = "".join(map(_candidate, description.candidates))
    ranked = f"ranked by {_RANKINGS[description.ranked_by]}"
    return (
        f'<article class="answer">{_copyable("answer-text", description.text)}{warning}'
        f'{_details(summary, seconds)}<details class="candidates">'
        f"<summary>{_count(len(description.candidates), 'candidate')}, {ranked}</summary>"
        f'<ul class="bars">{candidates}</ul></details></article>'
    )


def progress(counts: Progress, seconds: float) -> str:
    """Return the progress bar of a batch with its counts."""
    state = "cancelled" if counts.cancelled else "done" if counts.finished else "running"
    parts = [f"{counts.done:,} of {counts.total:,}"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.left_s:
        parts.append(f"{counts.left_s:.0f} s left")
    summary = f"{state.capitalize()}: {' · '.join(parts)}"
    return (
        f'<div class="progress" data-state="{state}"><progress max="{max(counts.total, 1)}" '
        f'value="{counts.done}" aria-label="Batch"></progress>{_details(summary, seconds)}</div>'
    )


def submitting(items: int) -> str:
    """Return the progress bar of a batch that is being submitted."""
    return (
        '<div class="progress"><progress aria-label="Batch"></progress>'
        f'<p class="answer-details"><span>Submitting {_count(items, "image")}</span></p></div>'
    )


def downloads(batch: str) -> str:
    """Return links to the results of a batch, given its public id."""
    links = "".join(
        f'<a class="file" href="results/{batch}.{kind}" download>{kind.upper()}</a>'
        for kind in ("jsonl", "csv")
    )
    return f'<p class="downloads"><span>Batch {escape(batch)}: download</span>{links}</p>'


def results(rows: Iterable[tuple[str, Result]]) -> str:
    """Return a table of the items of a batch, given the path of each image and its result.

    An empty path is an image that no longer exists.
    """
    body = "".join(_row(path, result) for path, result in rows)
    return (
        '<table class="results"><thead><tr><th scope="col">Image</th><th scope="col">Result</th>'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )


def statistics(text: str) -> str:
    """Return ``41 characters · 9 words``."""
    return f"{_count(len(text), 'character')} · {_count(words(text), 'word')}"


def words(text: str) -> int:
    """Count runs of letters and digits; in scripts without spaces a run is one word."""
    return len(_WORD.findall(text))


def escape(text: str) -> str:
    """Escape a text for HTML, on one line."""
    return "&#10;".join(escape_html(text).splitlines())


def _candidate(candidate: Candidate) -> str:
    prompt = f"prompt: {candidate.prompt}" if candidate.prompt else "no prompt"
    use = "used" if candidate.used else "dropped"
    return (
        f'<li class="{use}"><span class="term">{escape(candidate.text)}</span>'
        f'<span class="value">{candidate.score:g}</span><p class="answer-details">'
        f"<span>Round {candidate.round} · {escape(prompt)}</span><span>{use}</span></p></li>"
    )


def _question(question: str) -> str:
    return f'<p class="dialogue-question">{escape(question)}</p>'


def _copyable(css_class: str, text: str) -> str:
    """Return a paragraph with a button beside it that copies its text; see clipboard.js."""
    if not text:
        return f'<p class="{css_class}">(no text)</p>'
    return (
        f'<div class="copyable"><p class="{css_class}">{escape(text)}</p>'
        '<button type="button" class="copy">Copy</button></div>'
    )


def _details(summary: str, seconds: float) -> str:
    time = f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f'<p class="answer-details"><span>{summary}</span><span>{time}</span></p>'


def _row(path: str, result: Result) -> str:
    if result.error is None:
        text = result.text or ""
        output, detail = _copyable("answer-text", text), statistics(text)
    else:
        message = escape(as_sentence(result.error.message))
        output, detail = f'<p class="error-text">{message}</p>', escape(result.error.code.value)
    name = escape(result.custom_id or "")
    output += f'<p class="answer-details"><span>{name}</span><span>{detail}</span></p>'
    image = "?"
    if result.ok and path:
        image = f'<img src="gradio_api/file={quote(path)}" alt="" loading="lazy">'
    return (
        f'<tr class="{"good" if result.ok else "bad"}-row">'
        f'<td><div class="mat">{image}</div></td><td>{output}</td></tr>'
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
