"""Statistics of a filtered set, in bounded memory: counts, histograms and the closest calls."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from ..results.filter_result import ScoredText
from .pairs import ImageTextPair

#: Bins of a histogram of probabilities.
BINS: Final = 50
#: Closest calls of the report.
CLOSEST: Final = 60
#: The series of the histogram: web texts by their label, and synthetic captions.
SERIES: Final = ("right", "wrong", "unlabelled", "synthetic")


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """A decision about a text; those nearest to the threshold come first."""

    distance: float
    image: str
    text: str
    source: str
    probability: float
    accepted: bool
    #: "right", "wrong", "unlabelled" or "synthetic".
    series: str
    #: JSON of the image's locator, for the report.
    locator: Sequence[Any] = field(default=(), compare=False)


def _empty_histograms() -> dict[str, list[int]]:
    return {name: [0] * BINS for name in SERIES}


@dataclass(slots=True)
class FilterStatistics:
    """The statistics of all texts so far."""

    pairs: int = 0
    failed: int = 0
    #: Accepted and rejected texts of each series.
    accepted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERIES, 0))
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERIES, 0))
    histograms: dict[str, list[int]] = field(default_factory=_empty_histograms)
    closest: list[Call] = field(default_factory=list)

    def add(
        self, pair: ImageTextPair, text: ScoredText, threshold: float, *, accepted: bool
    ) -> None:
        """Count a text of a pair."""
        series = _series(pair, text)
        (self.accepted if accepted else self.rejected)[series] += 1
        self.histograms[series][min(BINS - 1, int(text.probability * BINS))] += 1
        distance = abs(text.probability - threshold)
        if len(self.closest) < CLOSEST or distance < self.closest[-1].distance:
            call = Call(
                distance,
                pair.image,
                text.text,
                text.source,
                text.probability,
                accepted,
                series,
                pair.locator.to_json(),
            )
            insort(self.closest, call)
            del self.closest[CLOSEST:]

    @property
    def labelled(self) -> int:
        """The number of web texts with a label."""
        return sum(counts[name] for counts in (self.accepted, self.rejected) for name in SERIES[:2])

    @property
    def precision(self) -> float | None:
        """The share of right texts among the accepted ones with a label; None without any."""
        return _share(self.accepted["right"], self.accepted["right"] + self.accepted["wrong"])

    @property
    def recall(self) -> float | None:
        """The share of accepted texts among the right ones; None without any."""
        return _share(self.accepted["right"], self.accepted["right"] + self.rejected["right"])

    def summary(self) -> dict[str, Any]:
        """Return the figures of the report."""
        web = SERIES[:3]
        return {
            "pairs": self.pairs,
            "failed": self.failed,
            "web": {
                "accepted": sum(self.accepted[name] for name in web),
                "rejected": sum(self.rejected[name] for name in web),
            },
            "synthetic": {
                "accepted": self.accepted["synthetic"],
                "rejected": self.rejected["synthetic"],
            },
            "labelled": self.labelled,
            "precision": self.precision,
            "recall": self.recall,
        }

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Read the fields of `to_json`."""
        return cls(**{**fields, "closest": [Call(**call) for call in fields["closest"]]})


def _series(pair: ImageTextPair, text: ScoredText) -> str:
    if text.source == "synthetic":
        return "synthetic"
    return "unlabelled" if pair.label is None else "right" if pair.label else "wrong"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
