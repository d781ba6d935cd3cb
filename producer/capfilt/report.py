"""The report of a run: figures, a histogram and the closest calls, in a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ..errors import InvalidInput
from ..sheets.entry import SheetEntry
from ..sheets.images import link_to, thumbnails
from ..sheets.page import SheetData, write_page
from .calibration import Calibration
from .histogram import draw_histogram
from .statistics import SERIES, Call, FilterStatistics
from .stream import Terms

#: Longer side of a thumbnail, in pixels.
_THUMBNAIL_PX: Final = 240


def check_report_directory(path: Path) -> None:
    """Create the directory; raises InvalidInput if it cannot be used, or Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise InvalidInput("--report needs Pillow: pip install 'blipline[pil]'") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be created: {error.strerror}") from None


def write_report(
    directory: Path,
    statistics: FilterStatistics,
    terms: Terms,
    calibration: Calibration | None,
    locate: Callable[[str], str],
) -> None:
    """Write `report.json`, `histogram.png` and `closest.html`."""
    calibrated = {} if calibration is None else {"calibration": asdict(calibration)}
    figures = {
        **statistics.summary(),
        "threshold": terms.threshold,
        "synthetic_threshold": terms.threshold_of("synthetic"),
        **calibrated,
        "histograms": statistics.histograms,
    }
    thresholds = {
        name: terms.threshold_of("synthetic" if name == "synthetic" else "web") for name in SERIES
    }
    try:
        text = json.dumps(figures, indent=1)
        (directory / "report.json").write_text(f"{text}\n", "utf-8")
        picture = draw_histogram(statistics.histograms, thresholds)
        picture.save(directory / "histogram.png")
        _write_sheet(directory, statistics.closest, locate)
    except OSError as error:
        raise InvalidInput(f"{directory}: cannot be written: {error.strerror}") from None


def _write_sheet(directory: Path, calls: Sequence[Call], locate: Callable[[str], str]) -> None:
    """Write the closest calls as a contact sheet, which loads images from the web by link."""
    locations = [locate(call.image) for call in calls]
    paths = [location if os.path.isfile(location) else None for location in locations]
    entries = [SheetEntry(call.image, call.image, call.text, None, _fields(call)) for call in calls]
    links = [
        link_to(location, path, str(directory))
        for location, path in zip(locations, paths, strict=True)
    ]
    images = None
    if any(paths):
        # The thumbnails of local images make the page complete; it loads nothing then.
        images = thumbnails(zip(locations, paths, strict=True), _THUMBNAIL_PX, os.cpu_count() or 1)
    with (directory / "closest.html").open("wb") as file:
        write_page(file, SheetData.of_output("Closest calls", entries, links), images)


def _fields(call: Call) -> dict[str, str]:
    return {
        "decision": "accepted" if call.accepted else "rejected",
        "probability": f"{call.probability:.4f}",
        "kind": call.series if call.source == "web" else "synthetic",
    }
