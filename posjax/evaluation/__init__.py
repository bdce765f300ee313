"""A model in, numbers out: by length, by position, by task. Never trains."""

from posjax.evaluation.accuracy import Accuracy
from posjax.evaluation.base import Evaluation
from posjax.evaluation.extrapolation import Extrapolation
from posjax.evaluation.retrieval import Retrieval
from posjax.evaluation.titles import title
from posjax.evaluation.variants import RAW, WINDOWED, Extension, TrainedModel, Variant, extended, variants

__all__ = [
    "RAW",
    "WINDOWED",
    "Accuracy",
    "Evaluation",
    "Extension",
    "Extrapolation",
    "Retrieval",
    "TrainedModel",
    "Variant",
    "extended",
    "title",
    "variants",
]
