"""Scores of captions against references: BLEU, ROUGE-L, CIDEr and exact match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import InvalidInput
from .bleu import bleu
from .cider import cider
from .ptb_tokenizer import tokenize
from .rouge_l import rouge_l

#: Id of an image.
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of captions, 0 to 1; CIDEr 0 to 10."""

    images: int
    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float
    #: Share of captions whose tokens equal those of a reference.
    exact_match: float
    #: ROUGE-L and CIDEr of each image, by its id.
    by_image: Mapping[Any, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the scores under the names of pycocoevalcap."""
        return {
            "images": self.images,
            **{f"Bleu_{order}": score for order, score in enumerate(self.bleu, start=1)},
            "ROUGE_L": self.rouge_l,
            "CIDEr": self.cider,
            "exact_match": self.exact_match,
        }


def score_captions(
    captions: Mapping[Key, str], references: Mapping[Key, Sequence[str]]
) -> CaptionScores:
    """Score a caption of each image against its references.

    As in pycocoevalcap, the images are those with a caption. Raises InvalidInput if there are
    none, or if one has no reference.
    """
    if not captions:
        raise InvalidInput("there are no captions to score")
    for image in captions:
        if not references.get(image):
            raise InvalidInput(f"image {image}: there is no reference caption")
    pairs = [
        (tokenize(caption), [tokenize(reference) for reference in references[image]])
        for image, caption in captions.items()
    ]
    rouge = [rouge_l(*pair) for pair in pairs]
    consensus = cider(pairs)
    first, second, third, fourth = bleu(pairs)
    return CaptionScores(
        images=len(pairs),
        bleu=(first, second, third, fourth),
        rouge_l=sum(rouge) / len(pairs),
        cider=sum(consensus) / len(pairs),
        exact_match=sum(caption in references for caption, references in pairs) / len(pairs),
        by_image=dict(zip(captions, zip(rouge, consensus, strict=True), strict=True)),
    )
