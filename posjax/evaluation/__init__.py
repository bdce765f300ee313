"""A model in, numbers out: by length, by position, by task. Never trains."""

from posjax.evaluation.extrapolation import Extrapolation
from posjax.evaluation.retrieval import Retrieval
from posjax.evaluation.variants import RAW, WINDOWED, Extension, Subject, Variant, extended, variants

__all__ = ["RAW", "WINDOWED", "Extension", "Extrapolation", "Retrieval", "Subject", "Variant", "extended", "variants"]
