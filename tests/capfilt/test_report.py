"""Statistics and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from producer.capfilt.calibration import Calibration
from producer.capfilt.pairs import ImageTextPair
from producer.capfilt.report import check_report_directory, write_report
from producer.capfilt.statistics import CLOSEST, FilterStatistics
from producer.capfilt.stream import Terms
from producer.errors import InvalidInput
from producer.image_sources.picture import Locator
from producer.results.filter_result import ScoredText


def web(probability: float, text: str = "a cat") -> ScoredText:
    return ScoredText(text, "web", probability, 0.0)


def filled(path: str = "a.jpg") -> FilterStatistics:
    """Accept two right texts, a wrong and a synthetic one; reject a right and a wrong one."""
    statistics = FilterStatistics()
    for label, probability in ((True, 0.9), (True, 1.0), (False, 0.55), (True, 0.2), (False, 0.0)):
        pair = ImageTextPair("a.jpg", ["a cat"], label=label, locator=Locator("file", path))
        statistics.add(pair, web(probability), 0.5, accepted=probability >= 0.5)
    synthetic = ScoredText("a dog", "synthetic", 0.7, 0.0)
    pair = ImageTextPair("a.jpg", ["a cat"], locator=Locator("file", path))
    statistics.add(pair, synthetic, 0.6, accepted=True)
    statistics.pairs = 5
    return statistics


def test_precision_and_recall_are_those_of_labelled_web_texts() -> None:
    summary = filled().summary()
    assert (summary["precision"], summary["recall"], summary["labelled"]) == (2 / 3, 2 / 3, 5)
    assert summary["web"] == {"accepted": 3, "rejected": 2}
    assert summary["synthetic"] == {"accepted": 1, "rejected": 0}
    assert FilterStatistics().summary()["precision"] is None


def test_statistics_survive_a_checkpoint() -> None:
    statistics = filled()
    restored = FilterStatistics.of(json.loads(json.dumps(statistics.to_json())))
    assert restored == statistics
    restored.add(ImageTextPair("b.jpg", ["b"]), web(0.5), 0.5, accepted=True)
    assert restored.closest[0].image == "b.jpg"


def test_the_closest_calls_are_bounded_and_the_nearest_come_first() -> None:
    statistics = FilterStatistics()
    for number in range(500):
        probability = (number * 37 % 500) / 500
        statistics.add(
            ImageTextPair(f"{number}.jpg", ["a"]),
            web(probability),
            0.5,
            accepted=probability >= 0.5,
        )
    assert len(statistics.closest) == CLOSEST
    distances = [call.distance for call in statistics.closest]
    assert distances == sorted(distances)
    assert distances[0] == 0
    assert distances[-1] <= 0.0601
    assert sum(statistics.histograms["unlabelled"]) == 500


def test_the_report_has_figures_a_histogram_and_the_closest_calls(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.jpg")
    statistics, terms = filled(str(tmp_path / "a.jpg")), Terms(1, 0.5, 0.6)
    statistics.add(ImageTextPair("<b>", ["<i>"]), web(0.51, "<script>"), 0.5, accepted=True)
    statistics.add(ImageTextPair("https://x.org/a.jpg?a=1&b", ["c"]), web(0.52), 0.5, accepted=True)
    report = tmp_path / "deep" / "report"
    check_report_directory(report)
    calibration = Calibration(0.5, 0.96, 0.9, 10)
    write_report(report, statistics, terms, calibration)
    figures = json.loads((report / "report.json").read_text())
    assert (figures["threshold"], figures["synthetic_threshold"]) == (0.5, 0.6)
    assert figures["calibration"]["precision"] == 0.96
    page = (report / "closest.html").read_text()
    assert page.count('"decision":') == 8
    assert page.count("data:image/jpeg;base64,") == 6
    assert '"<script>' not in page
    assert '"t":"\\u003cscript>"' in page
    with Image.open(report / "histogram.png") as picture:
        colors = {color for _, color in picture.getcolors(1 << 20) or ()}
    # A bar of each series is there
    assert {(46, 125, 50), (198, 40, 40), (69, 90, 100), (21, 101, 192)} <= colors


def test_urls_are_linked_and_other_images_are_not(tmp_path: Path) -> None:
    statistics = FilterStatistics()
    for image in ("https://x.org/a.jpg?a=1&b", "javascript:alert(1)", "/no/such.jpg"):
        statistics.add(ImageTextPair(image, ["a"]), web(0.5), 0.5, accepted=True)
    write_report(tmp_path, statistics, Terms(), None)
    page = (tmp_path / "closest.html").read_text()
    assert '"u":"https://x.org/a.jpg?a=1&b"' in page
    assert page.count('"u":') == 1


def test_a_report_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="file/report: cannot be created"):
        check_report_directory(tmp_path / "file" / "report")


def test_an_empty_set_has_a_report(tmp_path: Path) -> None:
    write_report(tmp_path, FilterStatistics(), Terms(), None)
    assert (tmp_path / "histogram.png").stat().st_size > 0
