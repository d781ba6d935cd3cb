"""Retrieval recall at 1, 5 and 10 in both directions, on COCO and Flickr30k.

Texts are the captions of all images, about five for each. Image to text: one of the image's own
captions is among the first K. Text to image: the caption's own image is. A tie counts as lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidInput
from .annotations import CaptionedImage
from .items import retrieval_text
from .results import known_ids, read_records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Indices = NDArray[np.int64]

RANKS: Final = (1, 5, 10)
#: Rows of a block of the score matrix: 5,000 images and 25,000 texts fit into memory.
_BLOCK_ROWS: Final = 256

#: Nearest distance of a probability to 0 and 1, so that its log-odds are finite: that of float32.
_EPSILON: Final = 2.0**-24


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Recall, 0 to 1, at each of RANKS."""

    images: int
    texts: int
    image_to_text: tuple[float, ...]
    text_to_image: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores in percent."""
        recalls = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        return {"images": self.images, "texts": self.texts} | {
            direction: {
                f"R@{rank}": round(100 * recall, 2)
                for rank, recall in zip(RANKS, values, strict=True)
            }
            for direction, values in recalls.items()
        }


class Embeddings:
    """Unit vectors of all images and texts of a data set."""

    def __init__(self, images: Sequence[CaptionedImage], image_rows: Any, text_rows: Any) -> None:
        import numpy as np

        self.images = images
        self.texts = [retrieval_text(caption) for image in images for caption in image.captions]
        #: The position of each text's image.
        self.owners: Indices = np.repeat(
            np.arange(len(images)), [len(image.captions) for image in images]
        )
        self._image_rows: Matrix = np.asarray(image_rows, np.float32)
        self._text_rows: Matrix = np.asarray(text_rows, np.float32)
        if self._image_rows.shape[1:] != self._text_rows.shape[1:] or self._image_rows.ndim != 2:
            raise ValueError("vectors of different lengths")
        if not (np.isfinite(self._image_rows).all() and np.isfinite(self._text_rows).all()):
            raise ValueError("a vector has a value that is not finite")

    @classmethod
    def read(cls, path: str, images: Sequence[CaptionedImage]) -> Embeddings:
        """Read the results of `embedding_items`; raises InvalidInput if a vector is missing."""
        vectors: dict[str, list[float]] = {}
        for position, record in read_records(path):
            if "embedding" not in record:
                raise InvalidInput(f"{position}: no embedding: {record.get('error', record)}")
            vectors[str(record.get("custom_id"))] = record["embedding"]
        names = [f"image:{image.id}" for image in images]
        texts = [
            f"text:{image.id}:{number}" for image in images for number in range(len(image.captions))
        ]
        for name in (*names, *texts):
            if name not in vectors:
                raise InvalidInput(f"{path}: there is no vector with the custom_id {name!r}")
        try:
            return cls(images, [vectors[name] for name in names], [vectors[name] for name in texts])
        except (TypeError, ValueError, OverflowError):
            raise InvalidInput(f"{path}: a vector has no numbers, or another length") from None

    def blocks(self) -> Iterator[tuple[int, Matrix, bool]]:
        """Yield the first position of a block, its cosines, and True if its rows are images."""
        for rows, columns, of_images in (
            (self._image_rows, self._text_rows, True),
            (self._text_rows, self._image_rows, False),
        ):
            for start in range(0, len(rows), _BLOCK_ROWS):
                yield start, rows[start : start + _BLOCK_ROWS] @ columns.T, of_images


def score_retrieval(embeddings: Embeddings) -> RetrievalScores:
    """Return the recall of the ranking by cosine."""
    return _score(embeddings, lambda start, cosines, of_images: cosines)


def score_reranked(embeddings: Embeddings, matches: Matrix, top: int) -> RetrievalScores:
    """Return the recall after re-ranking the first `top` by their scores in `matches`.

    As in BLIP's evaluation, no other text or image counts. Raises InvalidInput if a pair has no
    score.
    """
    import numpy as np

    def rerank(start: int, cosines: Matrix, of_images: bool) -> Matrix:
        block = (matches if of_images else matches.T)[start : start + len(cosines)]
        columns = _candidates(cosines, top)
        values = np.take_along_axis(block, columns, axis=1)
        for row, column in np.argwhere(np.isnan(values)):
            pair = (start + row, columns[row, column])
            image, text = pair if of_images else reversed(pair)
            raise InvalidInput(
                f"image {embeddings.images[image].id}: no matching score for the text "
                f"{embeddings.texts[text]!r}"
            )
        scores = np.full_like(cosines, -np.inf)
        np.put_along_axis(scores, columns, values, axis=1)
        return scores

    return _score(embeddings, rerank)


def read_matches(path: str, embeddings: Embeddings) -> Matrix:
    """Read the results of `match_items` as scores by image and text; NaN where there is none.

    A score is the log-odds of the match plus its cosine, as BLIP's evaluation adds them. The cosine
    is that of the match: BLIP-2 has several vectors of an image. Raises InvalidInput for a failed,
    unknown or incomplete match.
    """
    import numpy as np

    rows = {image.id: row for row, image in enumerate(embeddings.images)}
    columns: dict[str, list[int]] = {}
    for column, text in enumerate(embeddings.texts):
        columns.setdefault(text, []).append(column)
    resolve = known_ids(rows)
    scores = np.full((len(rows), len(embeddings.texts)), np.nan, np.float32)
    for position, record in read_records(path):
        if "matches" not in record:
            raise InvalidInput(f"{position}: no matches: {record.get('error', record)}")
        custom_id = str(record.get("custom_id", ""))
        key = resolve(custom_id.removeprefix("match:").rpartition(":")[0])
        if key is None:
            raise InvalidInput(f"{position}: the custom_id {custom_id!r} names no image")
        try:
            for match in record["matches"]:
                score = _log_odds(float(match["probability"])) + float(match["cosine"])
                scores[rows[key], columns.get(match["text"], [])] = score
        except (KeyError, TypeError, ValueError, OverflowError):
            message = "a match needs a text, and a probability and a cosine as numbers"
            raise InvalidInput(f"{position}: {message}") from None
    return scores


def candidate_texts(embeddings: Embeddings, top: int) -> dict[int, list[str]]:
    """Return the texts to match with each image: the candidates of both directions."""
    texts: dict[int, dict[str, None]] = {}
    for start, cosines, of_images in embeddings.blocks():
        for row, columns in enumerate(_candidates(cosines, top).tolist(), start):
            for column in columns:
                image, text = (row, column) if of_images else (column, row)
                texts.setdefault(image, {})[embeddings.texts[text]] = None
    return {image: list(candidates) for image, candidates in texts.items()}


def _candidates(cosines: Matrix, top: int) -> Indices:
    """Return the columns of the `top` largest cosines of each row."""
    import numpy as np

    top = min(top, cosines.shape[1])
    return np.argpartition(cosines, -top, axis=1)[:, -top:]


def _log_odds(probability: float) -> float:
    probability = min(max(probability, _EPSILON), 1 - _EPSILON)
    return math.log(probability / (1 - probability))


def _score(embeddings: Embeddings, rank: Any) -> RetrievalScores:
    """Return the recall of the scores that `rank` gives to a block of cosines."""
    ranks: dict[bool, list[int]] = {True: [], False: []}
    for start, cosines, of_images in embeddings.blocks():
        scores = rank(start, cosines, of_images)
        for row, values in enumerate(scores):
            ranks[of_images].append(_best_rank(values, embeddings.owners, start + row, of_images))
    return RetrievalScores(
        images=len(ranks[True]),
        texts=len(ranks[False]),
        image_to_text=_recalls(ranks[True]),
        text_to_image=_recalls(ranks[False]),
    )


def _best_rank(values: Matrix, owners: Indices, position: int, of_images: bool) -> int:
    """Return the rank, from 0, of the best right answer among all wrong ones."""
    import numpy as np

    own = owners if of_images else np.arange(len(values))
    right = own == (position if of_images else owners[position])
    best = values[right].max()
    return int((values[~right] >= best).sum())


def _recalls(ranks: Sequence[int]) -> tuple[float, ...]:
    return tuple(sum(rank < limit for rank in ranks) / len(ranks) for limit in RANKS)
