"""A picture of the probabilities of all texts, with the thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .statistics import BINS, SERIES

if TYPE_CHECKING:
    from PIL import Image

#: Width of a bin, height of a panel and margins, in pixels.
_BIN_PX, _PANEL_PX, _MARGIN_PX, _LABEL_PX = 14, 130, 60, 26
_FONT_PX: Final = 13
_COLORS: Final[Mapping[str, str]] = {
    "right": "#2e7d32",
    "wrong": "#c62828",
    "unlabelled": "#455a64",
    "synthetic": "#1565c0",
}
_TITLES: Final[Mapping[str, str]] = {
    "right": "web texts labelled right",
    "wrong": "web texts labelled wrong",
    "unlabelled": "web texts",
    "synthetic": "synthetic captions",
}


def draw_histogram(
    histograms: Mapping[str, list[int]], thresholds: Mapping[str, float]
) -> Image.Image:
    """Draw a panel for each series that has texts; `thresholds` are by series."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = [name for name in SERIES if any(histograms[name])] or ["unlabelled"]
    panel_px = _LABEL_PX + _PANEL_PX
    width, height = BINS * _BIN_PX + 2 * _MARGIN_PX, len(drawn) * panel_px + _LABEL_PX + 10
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_PX)
    for position, name in enumerate(drawn):
        top = position * panel_px + _LABEL_PX
        counts = histograms[name]
        title = f"{_TITLES[name]}: {sum(counts):,}, at most {max(counts):,} in a bin"
        pen.text((_MARGIN_PX, top - _LABEL_PX + 6), title, "black", font)
        for box in _bars(counts, top):
            pen.rectangle(box, _COLORS[name])
        base = top + _PANEL_PX
        pen.line((_MARGIN_PX, base, width - _MARGIN_PX, base), "black")
        x = _MARGIN_PX + round(thresholds[name] * BINS * _BIN_PX)
        pen.line((x, top, x, base), "black", 2)
        pen.text((x + 4, top), f"{thresholds[name]:g}", "black", font)
    for tenth in range(0, 11, 2):
        x = _MARGIN_PX + tenth * BINS * _BIN_PX // 10
        pen.text((x - 8, height - _LABEL_PX), f"{tenth / 10:g}", "black", font)
    return picture


def _bars(counts: list[int], top: int) -> Iterable[Any]:
    """Yield the box of each bar. A bin with few texts is visible: the root of the count counts."""
    highest = max(counts) or 1
    for number, count in enumerate(counts):
        if count:
            x = _MARGIN_PX + number * _BIN_PX
            bar_px = max(1, round((count / highest) ** 0.5 * _PANEL_PX))
            yield (x + 1, top + _PANEL_PX - bar_px, x + _BIN_PX - 2, top + _PANEL_PX)
