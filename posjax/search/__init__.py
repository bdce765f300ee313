"""Rotary schedules past the trained length, found by gradient with the weights of the model frozen."""

from posjax.search.gradient import Found, GradientSearch, Step
from posjax.search.rows import On
from posjax.search.searched import Comparison, Searched

__all__ = ["Comparison", "Found", "GradientSearch", "On", "Searched", "Step"]
