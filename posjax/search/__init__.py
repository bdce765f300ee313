"""Rotary schedules past the trained length, found by gradient with the weights of the model frozen."""

from posjax.search.gradient import Found, GradientSearch, Step

__all__ = ["Found", "GradientSearch", "Step"]
