"""The report of a run: figures, a histogram and the closest calls, in a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ..errors import InvalidInput
from ..extras import install_command
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Locator
from ..sheets.entry import SheetEntry
from ..sheets.images import link_to, located_image, thumbnails
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
        raise InvalidInput(f"--report needs Pillow: {install_command('pil')}") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be created: {error.strerror}") from None


def write_report(
    directory: Path,
    statistics: FilterStatistics,
    terms: Terms,
    calibration: Calibration | None,
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
        _write_sheet(directory, statistics.closest)
    except OSError as error:
        raise InvalidInput(f"{directory}: cannot be written: {error.strerror}") from None


def _write_sheet(directory: Path, calls: Sequence[Call]) -> None:
    """Write the closest calls as a contact sheet, which loads images from the web by link."""
    locators = [Locator.of_json(list(call.locator)) for call in calls]
    paths = [_path_of(locator) for locator in locators]
    entries = [SheetEntry(call.image, call.image, call.text, None, _fields(call)) for call in calls]
    links = [
        link_to(call.image, path, str(directory)) for call, path in zip(calls, paths, strict=True)
    ]
    images = None
    if any(path or locator.kind != "url" for path, locator in zip(paths, locators, strict=True)):
        # The thumbnails of local images make the page complete; it loads nothing then.
        reader = ImageBytes()
        files = (located_image(locator, reader) for locator in locators)
        images = thumbnails(files, _THUMBNAIL_PX, os.cpu_count() or 1)
    with (directory / "closest.html").open("wb") as file:
        write_page(file, SheetData.of_output("Closest calls", entries, links), images)


def _path_of(locator: Locator) -> str | None:
    is_file = locator.kind == "file" and os.path.isfile(locator.address)
    return locator.address if is_file else None


def _fields(call: Call) -> dict[str, str]:
    return {
        "decision": "accepted" if call.accepted else "rejected",
        "probability": f"{call.probability:.4f}",
        "kind": call.series if call.source == "web" else "synthetic",
    }
