"""The page of all pictures with the models' answers: a single file, complete in itself."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from PIL import Image, ImageOps

from demo.tour import QUESTIONS, Check, Report, Tour, wording
from producer import Result

TEMPLATE: Final = Path(__file__).with_name("contact_sheet.html")
#: Pixels of a thumbnail's longer side: twice what the page shows, for dense screens.
THUMBNAIL_PX: Final = 640


def write(tour: Tour, path: Path) -> None:
    """Write the page, making its directory where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(tour), encoding="utf-8")


def render(tour: Tour) -> str:
    """Return the page as HTML."""
    facts = {
        "pictures": f"{len(tour.reports)}",
        "captions, answers and checks": f"{tour.items}",
        "seconds": f"{tour.seconds:.2f}",
        "items a second": f"{tour.items / tour.seconds:,.0f}",
    }
    if tour.failed:
        facts["failed"] = f"{tour.failed}"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary="Through Redis, a Celery worker and its engine.",
        facts="".join(_pair(name, value) for name, value in facts.items()),
        cards="\n".join(_card(report) for report in tour.reports),
    )


def _card(report: Report) -> str:
    alt = escape(wording(report.caption))
    source, size = _thumbnail(report.image)
    answers = "".join(
        _pair(question, wording(answer), _mood(answer))
        for question, answer in zip(QUESTIONS, report.answers, strict=True)
    )
    return (
        f'<article><div class="mat"><img src="{source}" alt="{alt}"></div>'
        f'<div class="text"><h2{_mood(report.caption)}>{alt}</h2>'
        f'<dl class="qa">{answers}{_verdicts(report.check)}</dl>'
        f"<footer><span>{escape(report.image.name)}</span><span>{size}</span></footer>"
        "</div></article>"
    )


def _verdicts(check: Check | None) -> str:
    """Show P(match) of the caption, and of the same with a color that is not there."""
    if check is None:
        return ""
    if not check.result.ok:
        return _pair("P(match)", wording(check.result), _mood(check.result))
    terms = ("P(match) of the caption", f"with “{check.false}” instead")
    return "".join(
        _pair(term, f"{probability:.3f}")
        for term, (_, probability) in zip(terms, check.verdicts, strict=True)
    )


def _pair(term: str, description: str, mood: str = "") -> str:
    return f"<div><dt>{escape(term)}</dt><dd{mood}>{escape(description)}</dd></div>"


def _mood(result: Result) -> str:
    return "" if result.ok else ' class="bad"'


def _thumbnail(path: Path) -> tuple[str, str]:
    """Return the picture as a data URI and its size in words; an empty URI for a broken file."""
    try:
        with Image.open(path) as image:
            size = f"{image.width} by {image.height}"
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, Image.DecompressionBombError):
        return "data:,", "not a picture"
    upright.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    upright.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}", size
