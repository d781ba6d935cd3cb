"""What the page shows, as HTML. Everything that comes from outside is escaped here.

Gradio shows it as Markdown, as its component for HTML needs a policy that lets pages evaluate
strings. One line that begins with the tag of a block is HTML and nothing else to Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape as escape_lines
from typing import Final
from urllib.parse import quote

from ..contract import Queue
from ..job import Match, Result
from ..ledger.records import Depth
from ..progress import Progress
from .messages import as_sentence

#: An answer that has not come yet.
WAITING: Final = '<p class="waiting" role="status">Waiting for the answer</p>'

#: Letters and digits, also with an apostrophe or a hyphen inside: ``don't`` is one word.
_WORD: Final = re.compile(r"\w+(?:['\u2019-]\w+)*")


def header(name: str, depth: Depth | None, *, can_leave: bool) -> str:
    """The title, how much is open in the queues, and who is signed in."""
    leave = f'<form method="post" action="logout"><button>{escape(name)}: sign out</button></form>'
    return (
        '<header class="head"><div><h1>Blipline</h1>'
        f"<p>Captions, answers and dialogues, through the queue.</p></div>{facts(depth)}"
        f"{leave if can_leave else ''}</header>"
    )


def facts(depth: Depth | None) -> str:
    """How much is open; dashes where the queue does not say."""
    shown = [
        (f"open {queue}", "-" if depth is None else f"{depth.items[queue]:,}") for queue in Queue
    ]
    shown.append(("running jobs", "-" if depth is None else f"{depth.running_jobs:,}"))
    pairs = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in shown)
    return f'<dl class="facts" aria-label="Open work">{pairs}</dl>'


def answer(text: str, seconds: float) -> str:
    """A text, with what can be counted of it and the time that it took."""
    return (
        f'<article class="answer"><p class="said">{escape(text) or "(no text)"}</p>'
        f'<p class="about"><span>{statistics(text)}</span><span>{_time(seconds)}</span></p>'
        "</article>"
    )


def beside(about: str, html: str, otherwise: str = "") -> str:
    """What is said of a picture, which answers.js shows while that is chosen; else the other."""
    return f'<blockquote class="beside" cite="{escape(about)}">{html}</blockquote>{otherwise}'


def dialogue(
    turns: Sequence[tuple[str, str]], seconds: float | None = None, asked: str | None = None
) -> str:
    """Questions and answers, oldest first; what can be counted of the last answer, or what is
    asked now."""
    if not turns and asked is None:
        return '<div class="dialogue empty">Ask something about the picture.</div>'
    said = "".join(
        f'{_asked(question)}<p class="replied">{escape(reply)}</p>' for question, reply in turns
    )
    about = ""
    if asked is not None:
        about = f"{_asked(asked)}{WAITING}"
    elif seconds is not None:
        last = turns[-1][1]
        about = f'<p class="about"><span>{statistics(last)}</span><span>{_time(seconds)}</span></p>'
    return f'<div class="dialogue" role="log" aria-live="polite">{said}{about}</div>'


def bars(matches: Sequence[Match], seconds: float) -> str:
    """How well each text fits, the best first."""
    rows = "".join(
        f'<li><span class="term">{escape(match.text)}</span>'
        f'<span class="value">{match.probability:.3f}</span>'
        f'<meter min="0" max="1" value="{match.probability:.4f}"></meter></li>'
        for match in sorted(matches, key=lambda match: -match.probability)
    )
    return (
        f'<article class="answer"><ul class="bars">{rows}</ul>'
        f'<p class="about"><span>{_counted(len(matches), "text")}</span>'
        f"<span>{_time(seconds)}</span></p></article>"
    )


def progress(counts: Progress, seconds: float) -> str:
    """How far a batch is."""
    state = "cancelled" if counts.cancelled else "done" if counts.finished else "running"
    parts = [f"{counts.done:,} of {counts.total:,}"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.left_s:
        parts.append(f"{counts.left_s:.0f} s left")
    return (
        f'<div class="progress" data-state="{state}"><progress max="{max(counts.total, 1)}" '
        f'value="{counts.done}" aria-label="Batch"></progress>'
        f'<p class="about"><span>{state.capitalize()}: {" · ".join(parts)}</span>'
        f"<span>{_time(seconds)}</span></p></div>"
    )


def submitting(items: int) -> str:
    """A batch that is on its way into the queue."""
    return (
        '<div class="progress"><progress aria-label="Batch"></progress>'
        f'<p class="about"><span>Submitting {_counted(items, "picture")}</span></p></div>'
    )


def downloads(batch: str) -> str:
    """Links to the results of a batch, by the id that its submitter knows."""
    links = "".join(
        f'<a class="file" href="results/{batch}.{kind}" download>{kind.upper()}</a>'
        for kind in ("jsonl", "csv")
    )
    return f'<p class="downloads"><span>Batch {escape(batch)}: download</span>{links}</p>'


def results(rows: Iterable[tuple[str, Result]]) -> str:
    """A table: each picture, by the path that it was uploaded to, beside how its item ended."""
    body = "".join(_row(path, result) for path, result in rows)
    return (
        '<table class="results"><thead><tr><th scope="col">Picture</th><th scope="col">Result</th>'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )


def statistics(text: str) -> str:
    """``41 characters · 9 words``."""
    return f"{_counted(len(text), 'character')} · {_counted(words(text), 'word')}"


def words(text: str) -> int:
    """Runs of letters and digits. Text without spaces between words is one for each run."""
    return len(_WORD.findall(text))


def _asked(question: str) -> str:
    return f'<p class="asked">{escape(question)}</p>'


def _row(path: str, result: Result) -> str:
    name = escape(result.custom_id or "")
    if result.error is None:
        text = result.text or ""
        said = (
            f'<p class="said">{escape(text)}</p>'
            f'<p class="about"><span>{name}</span><span>{statistics(text)}</span></p>'
        )
    else:
        code = escape(result.error.code.value)
        said = (
            f'<p class="bad">{escape(as_sentence(result.error.message))}</p>'
            f'<p class="about"><span>{name}</span><span>{code}</span></p>'
        )
    picture = f'<img src="gradio_api/file={quote(path)}" alt="" loading="lazy">'
    kind = "bad-row" if result.error else "good-row"
    return (
        f'<tr class="{kind}"><td><div class="mat">{picture if result.ok else "?"}</div></td>'
        f"<td>{said}</td></tr>"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def escape(text: str) -> str:
    """Text inside of HTML, on one line."""
    return "&#10;".join(escape_lines(text).splitlines())
