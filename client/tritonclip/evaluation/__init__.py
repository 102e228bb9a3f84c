"""How good a deployed model is, measured through its server: zero-shot classification and retrieval.

    a folder or a CSV ──_labelled──> images with labels ──_classification──> the best labels of each
        ──_accuracy──> top-1, top-5, each class, the worst confusions      (_journal keeps what is done, to resume)
    captions (COCO, Karpathy, CSV) ──_captioned──> images and captions ──_retrieval──> features
        ──_ranks──> recall@1, 5, 10, both ways

Every share is a ``Proportion``, with its interval; ``published_figures`` has what the model's authors measured.
"""

from tritonclip.evaluation._accuracy import ClassScore, Confusion
from tritonclip.evaluation._captioned import CaptionedImages, read_captioned
from tritonclip.evaluation._classification import ClassificationResult, evaluate_classification
from tritonclip.evaluation._labelled import LabelledImage, LabelledImages, find_labels, read_labelled
from tritonclip.evaluation._proportion import Proportion
from tritonclip.evaluation._published import Published, published_figures
from tritonclip.evaluation._ranks import first_hit_ranks
from tritonclip.evaluation._retrieval import RetrievalResult, evaluate_retrieval

__all__ = [
    "CaptionedImages",
    "ClassScore",
    "ClassificationResult",
    "Confusion",
    "LabelledImage",
    "LabelledImages",
    "Proportion",
    "Published",
    "RetrievalResult",
    "evaluate_classification",
    "evaluate_retrieval",
    "find_labels",
    "first_hit_ranks",
    "published_figures",
    "read_captioned",
    "read_labelled",
]
