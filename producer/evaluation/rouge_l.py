"""ROUGE-L of a caption, as pycocoevalcap computes it.

Lin, ROUGE: A Package for Automatic Evaluation of Summaries, ACL 2004. Precision and recall are
each the best of all references, and the F-measure favours recall by a beta of 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BETA: Final = 1.2


def rouge_l(caption: str, references: Sequence[str]) -> float:
    """Return ROUGE-L, 0 to 1, of a tokenized caption and its references."""
    words = caption.split(" ")
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        common = _common_subsequence(words, reference_words)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(reference_words))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for index, other_word in enumerate(second, start=1):
            above = lengths[index]
            if word == other_word:
                lengths[index] = diagonal + 1
            else:
                lengths[index] = max(above, lengths[index - 1])
            diagonal = above
    return lengths[-1]
