"""Queries, keys, values, positions and an encoding in; the attended values out. One definition, several backends."""

from posjax.attention.attend import BACKENDS, attend, choose, weigh
from posjax.attention.biases import Bias, ByDistance, ByPosition, describe
from posjax.attention.linear import LinearState, linear_attend
from posjax.attention.masks import Causal, Full, Mask, Segments, Window

__all__ = ["BACKENDS", "Bias", "ByDistance", "ByPosition", "Causal", "Full", "LinearState", "Mask", "Segments",
           "Window", "attend", "choose", "describe", "linear_attend", "weigh"]
