"""The report of a run: figures, a histogram and the closest calls, in a directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..errors import InvalidInput
from .calibration import Calibration
from .histogram import draw_histogram
from .sheet import sheet_page
from .statistics import SERIES, FilterStatistics
from .stream import Terms


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
        page = sheet_page(statistics.closest, locate)
        (directory / "closest.html").write_text(page, "utf-8")
    except OSError as error:
        raise InvalidInput(f"{directory}: cannot be written: {error.strerror}") from None
