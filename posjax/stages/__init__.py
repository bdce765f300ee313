"""Runs of several trainings, each from the last one's end."""

from posjax.stages.material import NOTHING_READ, Material, Texts
from posjax.stages.parts import TrainingPart, of_parts, own_text, parts, told, vocabulary_of
from posjax.stages.spent import Spent, spent
from posjax.stages.training import ended, fitted, to_train
from posjax.stages.values import Stage, Stages, Untrained

__all__ = [
    "NOTHING_READ",
    "Material",
    "Spent",
    "Stage",
    "Stages",
    "Texts",
    "TrainingPart",
    "Untrained",
    "ended",
    "fitted",
    "of_parts",
    "own_text",
    "parts",
    "spent",
    "to_train",
    "told",
    "vocabulary_of",
]
