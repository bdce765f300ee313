"""Rotary schedules past the trained length, found by gradient with the weights of the model frozen."""

from posjax.search.gradient import CheckedSchedule, Found, GradientSearch
from posjax.search.rows import On
from posjax.search.searched import Comparison, Searched

__all__ = ["CheckedSchedule", "Comparison", "Found", "GradientSearch", "On", "Searched"]
