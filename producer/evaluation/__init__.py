"""Quality of captions, answers and retrieval, by the metrics of the published tables."""

from .captions import CaptionScores, score_captions
from .retrieval import RetrievalScores, score_reranked, score_retrieval
from .vqa import Question, VqaScores, score_answers

__all__ = [
    "CaptionScores",
    "Question",
    "RetrievalScores",
    "VqaScores",
    "score_answers",
    "score_captions",
    "score_reranked",
    "score_retrieval",
]
