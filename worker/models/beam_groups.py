"""Groups of beams of one row, each with texts of its own, as transformers 4's BeamSearchScorer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from worker.engine.request import GenerationOptions

#: Score of a beam that does not count: at first, all beams of a group but one, which would
#: otherwise choose the same tokens.
UNUSED = -1e9


@dataclass(frozen=True, slots=True)
class Beam:
    """A text so far: the sum of its scores, its new tokens, and the line that scored each."""

    score: float
    tokens: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()

    def extended(self, score: float, token: int, line: int) -> Beam:
        """Return the text with one more token."""
        return Beam(score, (*self.tokens, token), (*self.lines, line))


class BeamGroup:
    """Beams that compete with each other; `ends` tells the complete texts."""

    def __init__(self, options: GenerationOptions, ends: Callable[[Beam], bool]) -> None:
        self.options, self.ends = options, ends
        self.size = options.group_beams
        self.beams = [Beam(0.0), *[Beam(UNUSED)] * (self.size - 1)]
        #: The best complete texts and their scores by length, in the order of their ends.
        self.complete: list[tuple[float, Beam]] = []
        self.is_done = False

    def advance(self, candidates: Iterable[Beam]) -> None:
        """Replace the beams by their best continuations; the candidates come best first."""
        running: list[Beam] = []
        ended: list[Beam] = []
        best: Beam | None = None
        for rank, beam in enumerate(candidates):
            best = best or beam
            if not self.ends(beam):
                running.append(beam)
            else:
                ended.append(beam)
                if rank < self.size:
                    self._add(beam)
            if len(running) == self.size:
                break
        # Stop texts, unlike end tokens, can end every candidate.
        spare = [Beam(beam.score + UNUSED, beam.tokens, beam.lines) for beam in ended]
        self.beams = (running + spare)[: self.size]
        self.is_done = best is not None and self._is_final(best)

    def result(self) -> list[tuple[float, Beam]]:
        """Return the best texts and their scores; unless the search is done, beams count too."""
        if not self.is_done:
            for beam in self.beams:
                self._add(beam)
        return self.complete

    def _by_length(self, score: float, length: int) -> float:
        return float(score / length**self.options.length_penalty)

    def _add(self, beam: Beam) -> None:
        """Add a text if it is among the best of the group."""
        score = self._by_length(beam.score, len(beam.tokens))
        if len(self.complete) < self.size or score > self._worst():
            self.complete.append((score, beam))
        if len(self.complete) > self.size:
            del self.complete[self._scores().index(self._worst())]

    def _scores(self) -> list[float]:
        return [score for score, _ in self.complete]

    def _worst(self) -> float:
        return min(self._scores())

    def _is_final(self, best: Beam) -> bool:
        """Return whether no continuation of the best candidate can enter the complete texts."""
        if len(self.complete) < self.size:
            return False
        early = self.options.early_stopping
        if early is True:
            return True
        longest = early == "never" and self.options.length_penalty > 0
        length = self.options.max_new_tokens if longest else len(best.tokens)
        return self._worst() >= self._by_length(best.score, length)


def best_texts(groups: Sequence[BeamGroup], count: int) -> list[Beam]:
    """Return the best texts of all groups of a row; of equal ones, those that ended last."""
    texts = [text for group in groups for text in group.result()]
    ranked = sorted(texts, key=lambda text: text[0])[::-1]
    return [beam for _, beam in ranked[:count]]
