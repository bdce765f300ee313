"""Queries, keys, values, positions and an encoding in; the attended values out. One definition, several backends."""

from posjax.attention.attend import attend, attention, context_length
from posjax.attention.biases import Bias, ByDistance, ByPosition, describe
from posjax.attention.dispatch import BACKENDS, PREFERENCES, Backend, Choice, choose, explain, known
from posjax.attention.jobs import Job, job
from posjax.attention.linear import LinearState, linear_attend
from posjax.attention.masks import Causal, Full, Mask, Segments, Window, as_mask

__all__ = [
    "BACKENDS",
    "PREFERENCES",
    "Backend",
    "Bias",
    "ByDistance",
    "ByPosition",
    "Causal",
    "Choice",
    "Full",
    "Job",
    "LinearState",
    "Mask",
    "Segments",
    "Window",
    "as_mask",
    "attend",
    "attention",
    "choose",
    "context_length",
    "describe",
    "explain",
    "job",
    "known",
    "linear_attend",
]
