"""A model in, numbers out: by length, by position, by task. Never trains."""

from posjax.evaluation.accuracy import Accuracy
from posjax.evaluation.base import Evaluation
from posjax.evaluation.context import EffectiveContext
from posjax.evaluation.cost import Cost
from posjax.evaluation.decay import Decay
from posjax.evaluation.extending import ByFactor, Extension, Fixed, Rebased, scheduled
from posjax.evaluation.extensions import ExtensionLike, Static, extended
from posjax.evaluation.extrapolation import Extrapolation
from posjax.evaluation.fixed_lengths import FixedLengths
from posjax.evaluation.invariance import Invariance
from posjax.evaluation.maps import AttentionMaps
from posjax.evaluation.objective import ObjectiveLoss
from posjax.evaluation.reach import Reach
from posjax.evaluation.retrieval import Retrieval
from posjax.evaluation.sliding import SlidingWindow
from posjax.evaluation.titles import title
from posjax.evaluation.variants import RAW, WINDOWED, TrainedModel, Variant, variants

__all__ = [
    "RAW",
    "WINDOWED",
    "Accuracy",
    "AttentionMaps",
    "ByFactor",
    "Cost",
    "Decay",
    "EffectiveContext",
    "Evaluation",
    "Extension",
    "ExtensionLike",
    "Extrapolation",
    "Fixed",
    "FixedLengths",
    "Invariance",
    "ObjectiveLoss",
    "Reach",
    "Rebased",
    "Retrieval",
    "SlidingWindow",
    "Static",
    "TrainedModel",
    "Variant",
    "extended",
    "scheduled",
    "title",
    "variants",
]
